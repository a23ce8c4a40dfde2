-- Pairs of queries on the tables of tests/verdicts/query_maker.py: certified equal, or not to be certified.
-- A case is `-- equal: why` or `-- different: why`, then two statements, one a line, then an empty line.

-- equal: sides of AND and =, alias, case
SELECT title FROM book WHERE price=1 AND stock=2
select b.title as x from book b where 2=b.stock and b.price = 1

-- equal: direction of >
SELECT title FROM book WHERE price>1
SELECT title FROM book WHERE 1<price

-- equal: USING
SELECT title FROM book JOIN author USING (author_id)
SELECT title FROM book b JOIN author a ON b.author_id=a.author_id

-- equal: BETWEEN
SELECT title FROM book WHERE price BETWEEN 1 AND 2
SELECT title FROM book WHERE price>=1 AND price<=2

-- equal: ordinal in GROUP BY
SELECT price, COUNT(*) FROM book GROUP BY 1
SELECT price, COUNT(*) FROM book GROUP BY price

-- equal: star
SELECT * FROM author
SELECT author_id,name,country FROM author

-- equal: brackets, De Morgan
SELECT ((title)) FROM book WHERE NOT (price=1 OR stock=2)
SELECT title FROM book WHERE price!=1 AND stock<>2

-- equal: what is always true
SELECT title FROM book WHERE 1=1 AND price>2
SELECT title FROM book WHERE price>2

-- equal: a CTE
WITH c AS (SELECT * FROM book WHERE price>2) SELECT title FROM c
SELECT title FROM book WHERE price>2

-- equal: a derived table
SELECT title FROM (SELECT title, price FROM book) WHERE price>2
SELECT title FROM book WHERE price>2

-- equal: what EXISTS selects
SELECT title FROM book WHERE EXISTS (SELECT * FROM sale WHERE sale.book_id=book.book_id)
SELECT title FROM book WHERE EXISTS (SELECT 1 FROM sale WHERE sale.book_id=book.book_id)

-- equal: order of a join
SELECT T1.title FROM book T1 JOIN author T2 ON T1.author_id=T2.author_id
SELECT a.title FROM author b JOIN book a ON a.author_id=b.author_id

-- equal: condition in ON or WHERE
SELECT title FROM book JOIN author ON book.author_id=author.author_id AND price>3
SELECT title FROM book, author WHERE book.author_id=author.author_id AND price>3

-- equal: IN of one
SELECT title FROM book WHERE price IN (3)
SELECT title FROM book WHERE price=3

-- equal: IN and OR
SELECT title FROM book WHERE price IN (3,4)
SELECT title FROM book WHERE price=4 OR price=3

-- equal: NOT IN and AND
SELECT title FROM book WHERE price NOT IN (3,4)
SELECT title FROM book WHERE price!=4 AND price!=3

-- equal: COUNT of a literal
SELECT COUNT(1) FROM book
SELECT COUNT(*) FROM book

-- equal: COUNT of a key that is never NULL
SELECT COUNT(book_id) FROM book
SELECT COUNT(*) FROM book

-- equal: DISTINCT over such a key
SELECT DISTINCT book_id FROM book
SELECT book_id FROM book

-- equal: MAX of DISTINCT
SELECT MAX(DISTINCT price) FROM book
SELECT MAX(price) FROM book

-- equal: IIF and CASE
SELECT IIF(price>1,'a','b') FROM book
SELECT CASE WHEN price>1 THEN 'a' ELSE 'b' END FROM book

-- equal: an output name in ORDER BY
SELECT title, price*2 AS p FROM book ORDER BY p
SELECT title, price*2 FROM book ORDER BY price*2

-- equal: order of GROUP BY
SELECT price, stock, COUNT(*) FROM book GROUP BY price, stock
SELECT price, stock, COUNT(*) FROM book GROUP BY stock, price

-- equal: names in a self-join
SELECT x.title FROM book x, book y WHERE x.price<y.price
SELECT b.title FROM book a, book b WHERE a.price>b.price

-- equal: DISTINCT and ORDER BY in IN
SELECT title FROM book WHERE author_id IN (SELECT DISTINCT author_id FROM author)
SELECT title FROM book WHERE author_id IN (SELECT author_id FROM author ORDER BY name)

-- equal: a comment
SELECT title FROM book -- c
SELECT title FROM book

-- equal: types of one affinity
SELECT CAST(price AS FLOAT) FROM book
SELECT CAST(price AS REAL) FROM book

-- equal: two signs of equality
SELECT title FROM book WHERE price == 3
SELECT title FROM book WHERE price = 3

-- equal: IS NOT NULL
SELECT title FROM book WHERE price IS NOT NULL
SELECT title FROM book WHERE NOT price ISNULL

-- equal: ASC
SELECT title FROM book ORDER BY price ASC LIMIT 1
SELECT b.title FROM book b ORDER BY b.price LIMIT 1

-- equal: a column that the key of its group fixes
SELECT name, COUNT(*) FROM author a JOIN book b ON a.author_id=b.author_id GROUP BY a.author_id
SELECT name, COUNT(*) FROM book b JOIN author a ON a.author_id=b.author_id GROUP BY a.author_id

-- equal: sides around a subquery
SELECT title FROM book WHERE price > (SELECT AVG(price) FROM book)
SELECT b.title FROM book b WHERE (SELECT AVG(c.price) FROM book c) < b.price

-- equal: an outer join
SELECT a.title FROM book a LEFT JOIN author b ON a.author_id=b.author_id WHERE b.name IS NULL
SELECT x.title FROM book x LEFT OUTER JOIN author y ON y.author_id=x.author_id WHERE y.name IS NULL

-- equal: a set operation
SELECT title FROM book UNION SELECT name FROM author
SELECT b.title FROM book b UNION SELECT name FROM author a

-- different: an aggregate without GROUP BY always gives a row
SELECT title FROM book WHERE EXISTS (SELECT COUNT(*) FROM sale WHERE sale.book_id=book.book_id)
SELECT title FROM book WHERE EXISTS (SELECT 1 FROM sale WHERE sale.book_id=book.book_id)

-- different: AND gives 1, not the value
SELECT price AND price FROM book
SELECT price FROM book

-- different: the same with what is always true
SELECT price AND 1=1 FROM book
SELECT price FROM book

-- different: NOT NOT gives 1, not the value
SELECT NOT NOT price FROM book
SELECT price FROM book

-- different: where NULL stands
SELECT title FROM book ORDER BY price NULLS LAST
SELECT title FROM book ORDER BY price

-- different: a TEXT key may be NULL
SELECT COUNT(code) FROM sale
SELECT COUNT(*) FROM sale

-- different: the same under DISTINCT
SELECT DISTINCT code FROM sale
SELECT code FROM sale

-- different: the left side's collation wins
SELECT title FROM book, author WHERE title = name COLLATE NOCASE
SELECT title FROM book, author WHERE name = title

-- different: group_concat shows the order
SELECT group_concat(t) FROM (SELECT title t FROM book ORDER BY price)
SELECT group_concat(title) FROM book

-- different: a text is not a number
SELECT title FROM book WHERE price='3'
SELECT title FROM book WHERE price=3

-- different: 2.0 is not '2', and 3.0 not 3 in a text
SELECT title FROM book WHERE price=3.0
SELECT title FROM book WHERE price=3

-- different: order of columns
SELECT title, price FROM book
SELECT price, title FROM book

-- different: case of a text
SELECT title FROM book WHERE title='A'
SELECT title FROM book WHERE title='a'

-- different: DISTINCT
SELECT DISTINCT price FROM book
SELECT price FROM book

-- different: outer and inner join
SELECT b.title FROM book b LEFT JOIN author a ON a.author_id=b.author_id
SELECT b.title FROM book b JOIN author a ON a.author_id=b.author_id

-- different: COUNT over an outer join
SELECT COUNT(a.author_id) FROM book b LEFT JOIN author a ON a.author_id=b.author_id
SELECT COUNT(*) FROM book b LEFT JOIN author a ON a.author_id=b.author_id

-- different: an empty group: NULL and 0
SELECT SUM(CASE WHEN price>1 THEN 1 ELSE 0 END) FROM book
SELECT COUNT(CASE WHEN price>1 THEN 1 END) FROM book

-- different: LIMIT
SELECT title FROM book ORDER BY price LIMIT 1
SELECT title FROM book ORDER BY price

-- different: UNION ALL
SELECT title FROM book UNION SELECT name FROM author
SELECT title FROM book UNION ALL SELECT name FROM author

-- different: GROUP BY reads a name as a column first
SELECT stock AS price, COUNT(*) FROM book GROUP BY price
SELECT stock, COUNT(*) FROM book GROUP BY stock

-- different: columns of derived tables go by name
SELECT w.a FROM (SELECT DISTINCT stock AS a, price AS b FROM book) w
SELECT w.a FROM (SELECT DISTINCT stock AS b, price AS a FROM book) w

-- different: which of the tied rows LIMIT takes depends on the plan
SELECT a.name FROM author a JOIN book b ON a.author_id = b.author_id ORDER BY b.price LIMIT 1
SELECT a.name FROM book b JOIN author a ON a.author_id = b.author_id ORDER BY b.price LIMIT 1

-- different: a column outside the group comes from any row
SELECT title, MAX(stock), COUNT(*) FROM book, author GROUP BY country
SELECT title, MAX(stock), COUNT(*) FROM author, book GROUP BY country

-- different: a key noted elsewhere, not enforced here
SELECT COUNT(code) FROM sale WHERE qty = 1
SELECT COUNT(1) FROM sale WHERE qty = 1

-- equal: LIMIT over what the order fixes
SELECT price FROM book WHERE stock = 1 AND price > 1 ORDER BY price LIMIT 1
SELECT b.price FROM book b WHERE b.price > 1 AND b.stock = 1 ORDER BY 1 LIMIT 1

-- equal: DISTINCT derived table and CTE
WITH c AS (SELECT DISTINCT stock AS n FROM book) SELECT n FROM c WHERE n > 1
SELECT x.k FROM (SELECT DISTINCT stock AS k FROM book) x WHERE 1 < x.k

-- equal: double NOT in a condition
SELECT title FROM book WHERE NOT NOT price > 1
SELECT title FROM book WHERE price > 1

-- different: chance
SELECT title FROM book WHERE random() > 0 AND price = 1
SELECT title FROM book WHERE price = 1 AND random() > 0
