"""A database of three tables with rows, on which every form of the dialect can be run."""

import sqlite3
from functools import cache
from typing import Any

from groundql.records import Column, Schema, Table

SQL = """
CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT, opened INTEGER, c1 INTEGER);
CREATE TABLE sale (id INTEGER PRIMARY KEY, shop INTEGER, amount REAL, day TEXT, name TEXT);
CREATE TABLE T3 (id INTEGER, "a b" TEXT, "Order" TEXT);
INSERT INTO shop VALUES (1, 'A', 'Lyon', 1, 3), (2, 'B', 'Rome', 0, 1), (3, 'C', NULL, 1, 2), (4, 'Lyon', 'Lyon', NULL, 1);
INSERT INTO sale VALUES (1, 1, 10, '2024-01-01', 'x'), (2, 1, 7.5, NULL, 'y'), (3, 2, 3, '2024-02-01', 'x'),
  (4, NULL, 9, '2024-02-02', 'A'), (5, 3, 2, '2024-03-01', 'C');
INSERT INTO T3 VALUES (1, 'q', 'z'), (2, 'r', 'y'), (2, 's', 'x'), (3, 'Lyon', 'w');
"""
MARKET = Schema(
    db_id="market",
    tables=tuple(
        Table(name=table, columns=tuple(Column(name=name) for name in names))
        for table, names in (
            ("shop", ("id", "name", "city", "opened", "c1")),
            ("sale", ("id", "shop", "amount", "day", "name")),
            ("T3", ("id", "a b", "Order")),
        )
    ),
)


@cache
def _database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SQL)
    return connection


def rows(sql: str) -> list[tuple[Any, ...]]:
    """What SQLite gives, double-quoted strings on as it has them by default."""
    return _database().execute(sql).fetchall()
