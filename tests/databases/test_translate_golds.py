"""Golds of the pocket benchmark on DuckDB copies of its databases: the same rows, and the same canonical query back."""

import contextlib
import re
from collections import Counter

import apsw
import pytest

from groundql.databases.executor import Executor
from groundql.databases.files import sqlite_file
from groundql.databases.open_database import OpenDatabase
from groundql.databases.schema import quoted, read_schema
from groundql.databases.translate import from_engine_sql
from groundql.errors import NotInDialect
from groundql.prompts.dialect import canonical_sql
from groundql.questions.load import load_data

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'groundql[duckdb]'")

KINDS = (("INT", "BIGINT"), ("CHAR|TEXT|CLOB|^$", "VARCHAR"), ("BOOL", "BOOLEAN"), ("", "DOUBLE"))


def duckdb_copy(source, schema, target):
    """A DuckDB file with the same tables and rows; dates stay the texts that they are."""
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    with duckdb.connect(str(target)) as copy:
        for table in schema.tables:
            kinds = [
                next(to for pattern, to in KINDS if re.search(pattern, column.type.upper()))
                if column.type.upper() not in ("DATE", "DATETIME", "TIMESTAMP")
                else "VARCHAR"
                for column in table.columns
            ]
            names = [quoted(column.name) for column in table.columns]
            copy.execute(
                f"CREATE TABLE {quoted(table.name)} ({', '.join(map(' '.join, zip(names, kinds, strict=True)))})"
            )
            rows = connection.execute(f"SELECT * FROM {quoted(table.name)}").fetchall()
            if rows:
                copy.executemany(
                    f"INSERT INTO {quoted(table.name)} VALUES ({', '.join('?' * len(names))})", rows
                )
    connection.close()


def bag(outcome):
    """Rows without order, numbers to six digits, as `ex_strict` compares them."""
    return Counter(
        tuple(float(f"{cell:.6g}") if isinstance(cell, int | float) else cell for cell in row)
        for row in outcome.rows
    )


@pytest.mark.slow
def test_nearly_every_gold_of_pocket_has_its_rows_on_duckdb_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = load_data("pocket")
    n_same = n_back = 0
    with Executor() as executor:
        for db_id, files in data.databases.items():
            path, schema = sqlite_file(files), read_schema(files)
            duckdb_copy(path, schema, tmp_path / f"{db_id}.duckdb")
            with OpenDatabase(tmp_path / f"{db_id}.duckdb") as duck:
                for question in data.questions:
                    if question.db_id != db_id:
                        continue
                    canonical = canonical_sql(question.gold_sql, schema)
                    there = duck.translate(canonical)
                    outcome = duck.run(there, max_rows=100_000)
                    assert outcome.status == "ok", (canonical, there, outcome.error)
                    n_same += bag(outcome) == bag(executor.run(path, canonical))
                    back = from_engine_sql(there, duck.schema, "duckdb")
                    with contextlib.suppress(NotInDialect):
                        n_back += canonical_sql(back, duck.schema) == canonical
    assert len(data.questions) == 972
    assert n_same >= 969  # one rounding twice, one time of day without a date
    assert n_back >= 969  # steps of dates stay as they are there
