"""Two databases that no other part of the project knows: a bakery chain in DuckDB, a ferry line in PostgreSQL.

Rows come from formulas, so that every run makes the same ones. The questions were written before any model was asked,
each with the SQL that answers it in the engine's own dialect.
"""

from pathlib import Path

from tests.postgres_server import DOCS

BAKERY = """
CREATE TABLE branch (branch_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, town VARCHAR NOT NULL, opened DATE, "closed on" DATE);
CREATE TABLE loaf (loaf_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, flour VARCHAR, price DECIMAL(5, 2), "weight g" INTEGER, is_vegan BOOLEAN);
CREATE TABLE baker (baker_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, branch_id INTEGER REFERENCES branch (branch_id), hired DATE, "hourly pay" DECIMAL(5, 2));
CREATE TABLE "daily sale" (sale_id INTEGER PRIMARY KEY, branch_id INTEGER REFERENCES branch (branch_id), loaf_id INTEGER REFERENCES loaf (loaf_id), sold_on DATE, sold INTEGER, thrown_away INTEGER);
COMMENT ON TABLE "daily sale" IS 'one kind of loaf in one branch on one day';
COMMENT ON COLUMN "daily sale".thrown_away IS 'loaves that were left in the evening; NULL: not counted';
COMMENT ON COLUMN branch."closed on" IS 'NULL while it is open';
"""
BAKERY_ROWS = """
INSERT INTO branch SELECT i, ['Mill Lane', 'Old Oven', 'Station', 'Market Hall', 'Riverside', 'Chapel'][i], ['Aldham', 'Brisk', 'Corley'][1 + i % 3], DATE '1998-03-01' + (700 * i)::INT, CASE WHEN i = 4 THEN DATE '2023-06-30' END FROM range(1, 7) t(i);
INSERT INTO loaf SELECT i, ['Rye Round', 'Spelt Tin', 'Baguette', 'Sunflower', 'Brioche', 'Focaccia', 'Pumpernickel', 'Milk Roll'][i], ['rye', 'spelt', 'wheat', 'rye', 'wheat', 'wheat', 'rye', NULL][i], 1.20 + 0.45 * i, CASE WHEN i = 8 THEN NULL ELSE 250 + 125 * (i % 4) END, i NOT IN (5, 8) FROM range(1, 9) t(i);
INSERT INTO baker SELECT i, ['Agnes', 'Bela', 'Cosima', 'Dov', 'Edda', 'Faruk', 'Gwen', 'Hugo', 'Ines', 'Jonas', 'Kira', 'Lev', 'Mona', 'Nils'][i], 1 + i % 6, DATE '2009-02-01' + (430 * i)::INT, CASE WHEN i % 7 = 0 THEN NULL ELSE 13.50 + 0.75 * (i % 5) END FROM range(1, 15) t(i);
INSERT INTO "daily sale" SELECT i, 1 + i % 6, 1 + (i * 5) % 8, DATE '2024-01-02' + (i // 4)::INT, 5 + (i * 37) % 60, CASE WHEN i % 9 = 0 THEN NULL ELSE (i * 13) % 7 END FROM range(1, 401) t(i);
"""
BAKERY_ASKED = {
    "How many branches are there?": "SELECT COUNT(*) FROM branch",
    "Which loaves are made of rye flour?": "SELECT name FROM loaf WHERE flour = 'rye'",
    "What is the average price of a loaf?": "SELECT AVG(price) FROM loaf",
    "Which bakers were hired after 2020?": "SELECT name FROM baker WHERE hired > DATE '2020-12-31'",
    "How many bakers work in each branch?": "SELECT b.name, COUNT(*) FROM branch b JOIN baker k USING (branch_id) GROUP BY b.name",
}

FERRIES = """
CREATE SCHEMA crossings;
SET search_path = crossings;
CREATE TABLE harbour (harbour_id integer PRIMARY KEY, name text NOT NULL, country text NOT NULL, depth_m numeric(4, 1));
CREATE TABLE vessel (vessel_id integer PRIMARY KEY, name text NOT NULL, "Call Sign" varchar(6), built date, cars integer, retired date);
CREATE TABLE sailing (sailing_id integer PRIMARY KEY, vessel_id integer NOT NULL REFERENCES vessel, from_harbour integer NOT NULL REFERENCES harbour, to_harbour integer NOT NULL REFERENCES harbour, leaves timestamp NOT NULL, passengers integer, fare numeric(6, 2));
CREATE TABLE delay (sailing_id integer PRIMARY KEY REFERENCES sailing, minutes integer NOT NULL, cause text);
COMMENT ON TABLE sailing IS 'one crossing of one vessel';
COMMENT ON COLUMN sailing.passengers IS 'NULL until it has sailed';
COMMENT ON COLUMN harbour.depth_m IS 'at the quay at low water, in metres';
COMMENT ON COLUMN vessel.cars IS 'how many fit on the car deck; NULL for passenger boats';
"""
FERRIES_ROWS = """
INSERT INTO harbour SELECT i, (ARRAY['Skagvik', 'Port Ellan', 'Hvalnes', 'Trosby', 'Kilmory'])[i], (ARRAY['Norway', 'Scotland', 'Iceland', 'Norway', 'Scotland'])[i], 6.5 + 1.7 * (i * 3 % 5) FROM generate_series(1, 5) i;
INSERT INTO vessel SELECT i, (ARRAY['Tern', 'Gannet', 'Puffin', 'Skua', 'Fulmar', 'Auk'])[i], CASE WHEN i <> 5 THEN 'LF' || 100 + i END, date '1989-04-01' + 1900 * i, CASE WHEN i % 3 = 0 THEN NULL ELSE 40 * i END, CASE WHEN i < 3 THEN date '2021-10-01' + 200 * i END FROM generate_series(1, 6) i;
INSERT INTO sailing SELECT i, 1 + i % 6, 1 + i % 5, 1 + (i + 1 + i % 3) % 5, timestamp '2025-05-01 07:30' + i * interval '11 hours', CASE WHEN i > 280 THEN NULL ELSE 20 + (i * 17) % 180 END, 18.50 + 4.25 * (i % 6) FROM generate_series(1, 300) i;
INSERT INTO delay SELECT i, 5 + (i * 7) % 90, (ARRAY['fog', 'engine', 'late cars', NULL])[1 + i % 4] FROM generate_series(1, 280) i WHERE i % 7 = 0;
"""
FERRIES_ASKED = {
    "How many harbours are there?": "SELECT COUNT(*) FROM harbour",
    "Which harbours are in Norway?": "SELECT name FROM harbour WHERE country = 'Norway'",
    "What is the longest delay in minutes?": "SELECT MAX(minutes) FROM delay",
    "Which vessels have no call sign?": 'SELECT name FROM vessel WHERE "Call Sign" IS NULL',
    "How many sailings did each vessel make?": "SELECT v.name, COUNT(*) FROM vessel v JOIN sailing s USING (vessel_id) GROUP BY v.name",
}


def make_bakery(path: Path) -> None:
    """The DuckDB file."""
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute(BAKERY + BAKERY_ROWS)


def make_ferries(superuser: str) -> str:
    """The database `ferries` of a server, its tables in a schema of their own; the URL of a role that may only read."""
    import psycopg

    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ferries")
    there = superuser.rpartition("/")[0] + "/ferries"
    with psycopg.connect(there, autocommit=True) as connection:
        connection.execute(FERRIES + FERRIES_ROWS)
        connection.execute(reader_role())
    return there.replace("postgres@", "reader@")


def reader_role() -> str:
    """The statements of docs/engines.md for this database and its schema, and the search path that finds it."""
    page = DOCS.read_text(encoding="utf-8")
    role = page[page.index("CREATE ROLE reader") : page.index("```", page.index("CREATE ROLE reader"))]
    role = role.replace("DATABASE shop", "DATABASE ferries")
    role = role.replace("USAGE ON SCHEMA public", "USAGE ON SCHEMA crossings")
    role = role.replace("IN SCHEMA public", "IN SCHEMA crossings")
    return role + "ALTER ROLE reader SET search_path = crossings;\n"
