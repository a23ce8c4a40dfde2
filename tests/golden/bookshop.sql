-- The database of the golden cases: small enough to check each result by eye.
CREATE TABLE author ( -- people who write
  author_id INTEGER PRIMARY KEY, -- number of the author
  name TEXT NOT NULL, -- example: 'Ana Costa'
  country TEXT -- NULL = unknown
);
CREATE TABLE book (
  book_id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  author_id INTEGER REFERENCES author (author_id),
  price REAL, -- in EUR
  stock INTEGER
);
CREATE TABLE "order" (
  code TEXT PRIMARY KEY,
  book_id INTEGER,
  `paid on` TEXT,
  FOREIGN KEY (book_id) REFERENCES book
);
INSERT INTO author VALUES (1, 'Ana Costa', 'Portugal'), (2, 'Bo Lind', 'Sweden'), (3, 'Cai Wu', NULL);
INSERT INTO book VALUES
  (1, 'Tides', 1, 10.0, 3), (2, 'Harbour', 1, 12.5, 0), (3, 'Snow', 2, 10.0, 5), (4, 'Glass', NULL, NULL, 1);
INSERT INTO "order" VALUES ('A-1', 1, '2024-01-02'), ('A-2', 1, '2024-02-03'), ('B-1', 3, NULL);
