-- What a hostile model could write, with the outcome that each must have.
-- A case is `-- outcome: why`, then the statement, then an empty line. The database is bookshop.sql.

-- refused: writing
UPDATE book SET price = 0

-- refused: writing
INSERT INTO author VALUES (9, 'x', 'y')

-- refused: writing
DELETE FROM book

-- refused: writing
DROP TABLE book

-- refused: writing behind a CTE
WITH doomed AS (SELECT 1) DELETE FROM book

-- refused: writing behind a CTE, with rows coming back
WITH doomed AS (SELECT 1) UPDATE book SET price = 0 RETURNING *

-- refused: a read-only connection lets this create a file
ATTACH 'stolen.db' AS stolen

-- refused: memory of its own
ATTACH ':memory:' AS aside

-- refused: a read-only connection lets this copy the whole database
VACUUM INTO 'copy.db'

-- refused: rewriting
VACUUM

-- refused: a table that outlives the query
CREATE TEMP TABLE kept AS SELECT * FROM book

-- refused: a view
CREATE VIEW v AS SELECT 1

-- refused: a trigger
CREATE TRIGGER t AFTER INSERT ON book BEGIN SELECT 1; END

-- refused: the schema made writable
PRAGMA writable_schema = ON

-- refused: even reading by PRAGMA
PRAGMA table_info(book)

-- refused: PRAGMA as a function shows the file's path
SELECT * FROM pragma_database_list

-- refused: locks
BEGIN IMMEDIATE

-- refused: locks
SAVEPOINT s

-- refused: statistics are written
ANALYZE

-- refused: indexes are written
REINDEX

-- refused: loading code
SELECT load_extension('evil.so')

-- refused: functions of the command line
SELECT fts3_tokenizer('simple')

-- error: not in the library
SELECT writefile('x', 'y')

-- error: not in the library
SELECT readfile('/etc/passwd')

-- refused: two statements
SELECT 1; DROP TABLE book

-- refused: two statements, a comment between them
SELECT 1; /* nothing here */ -- nor here
SELECT 2

-- refused: two statements, the first one empty
;SELECT 1; SELECT 2

-- refused: two statements, the comment not closed
SELECT 1; SELECT 2 /* to the end

-- timeout: recursion without end
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n

-- too_large: rows without end
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n

-- timeout: a cross join of a cross join
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
SELECT COUNT(*) FROM n AS a, n AS b, n AS c, n AS d, n AS e

-- refused: a blob of 965 MB
SELECT randomblob(1000000000)

-- refused: the same in hexadecimal
SELECT hex(zeroblob(100000000))

-- too_large: strings that grow by replacing
SELECT replace(replace(printf('%9000000d', 1), ' ', printf('%1000d', 1)), ' ', 'abcdefgh')

-- too_large: a wide number
SELECT printf('%999999999d', 1)

-- too_large: one string of many
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
SELECT group_concat(printf('%1000000d', i)) FROM n

-- too_large: few rows, many bytes
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT printf('%100000d', i) FROM n

-- timeout: a sorter that would spill to files
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT i FROM n ORDER BY -i

-- ok: many wildcards cost little on few rows
SELECT COUNT(*) FROM book WHERE title LIKE '%a%b%c%d%e%f%g%h%i%j%k%l%m%n%'

-- error: a column that is not there
SELECT titel FROM book

-- error: parameters that nobody gives
SELECT ?

-- refused: showing the plan is no answer
EXPLAIN SELECT 1
