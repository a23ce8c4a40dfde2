"""Fixtures of the question tests."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_sqlite() -> Callable[[Path], Path]:
    """Writes a SQLite file with one table, one column and one row."""

    def make(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        connection.executescript("CREATE TABLE shop (name TEXT); INSERT INTO shop VALUES ('Corner')")
        connection.close()
        return path

    return make
