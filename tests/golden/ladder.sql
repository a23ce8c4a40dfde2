-- The last rung that each answer passes, on bookshop.sql; the gold is SELECT title FROM book WHERE price = 10.
-- A case is `-- rung: why`, then the SQL, then an empty line. `ex_strict` passes everything; `ran` has other rows.

-- ex_strict: the gold itself
SELECT title FROM book WHERE price = 10

-- ex_strict: the same rows, written otherwise
SELECT b.title FROM book AS b WHERE b.price BETWEEN 10 AND 10.0 ORDER BY b.title DESC;

-- ex_strict: names quoted in all three ways
SELECT "title" FROM [book] WHERE `price` = 10.0 -- cheap ones

-- ran: other rows
SELECT title FROM book

-- ran: the right rows and one column more
SELECT title, price FROM book WHERE price = 10

-- ran: no rows
SELECT title FROM book WHERE 0

-- ran: the gold's column name over other values
SELECT name AS title FROM author

-- read_only: a column that is not there
SELECT titel FROM book WHERE price = 10

-- read_only: a misspelt name in double quotes, which SQLite would run as a text
SELECT "titel" FROM book WHERE price = 10

-- read_only: a text in double quotes
SELECT title FROM book WHERE title = "Tides"

-- read_only: a table that is not there
SELECT title FROM books

-- read_only: an alias that was never given
SELECT T2.title FROM book AS T1

-- read_only: a function of another engine
SELECT title FROM book WHERE CONTAINS(title, 'Tides')

-- read_only: syntax that sqlglot takes and SQLite does not
SELECT title,, price FROM book

-- read_only: the same
SELECT title FROM book GROUP BY

-- read_only: other dialects
SELECT title::text FROM book

-- read_only: a join that leaves a name unclear
SELECT author_id FROM book, author

-- read_only: sides of different widths
SELECT title FROM book UNION SELECT title, price FROM book

-- read_only: a whole statement in brackets
(SELECT title FROM book)

-- extracted: two statements
SELECT title FROM book WHERE price = 10; SELECT 1

-- extracted: writing
DELETE FROM book

-- extracted: writing
INSERT INTO book (title) SELECT title FROM book WHERE price = 10

-- extracted: a command
PRAGMA table_info(book)

-- extracted: showing the plan
EXPLAIN SELECT title FROM book WHERE price = 10

-- parsed: writing behind a CTE
WITH gone AS (DELETE FROM book RETURNING title) SELECT title FROM gone

-- nothing: prose
hello world

-- nothing: a placeholder
sql placeholder

-- nothing: an apology
I cannot answer this question with the tables that I see.

-- nothing: a bare expression
title

-- nothing: a number
42
