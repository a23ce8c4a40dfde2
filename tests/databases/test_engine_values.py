"""Values of other engines as cells, and which engine a place names."""

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from groundql.databases.engine_values import cell, example_literals
from groundql.records import DatabaseFiles, dialect_of
from groundql.verdicts.rows import same_rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1),
        (Decimal("12.00"), 12),
        (Decimal("12.50"), 12.5),
        (Decimal("1E+30"), 10**30),
        (Decimal(2**70), 2**70),
        (Decimal("Infinity"), math.inf),
        (date(1999, 12, 31), "1999-12-31"),
        (datetime(1999, 12, 31, 23, 5), "1999-12-31 23:05:00"),
        (datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2019-12-31 23:00:00+00:00"),
        (datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01 00:00:00+00:00"),
        (time(9, 30), "09:30:00"),
        (timedelta(days=30, seconds=5), "30 days 5.000000 s"),
        (UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
        (bytearray(b"\x00"), b"\x00"),
        ([1, None, Decimal("0.5")], "[1, null, 0.5]"),
        ({"a": date(2000, 1, 1), "b": [b"\x01"]}, '{"a": "2000-01-01", "b": ["01"]}'),
        ("text", "text"),
        (None, None),
    ],
)
def test_a_value_becomes_a_cell(value, expected):
    assert cell(value) == expected
    assert type(cell(value)) is type(expected)


def test_a_decimal_without_end_in_python_is_a_float():
    assert cell(Decimal("1E+5000")) == math.inf
    assert math.isnan(cell(Decimal("NaN")))


def test_a_boolean_equals_one_and_a_date_its_text_when_rows_are_compared():
    ours = [(cell(True), cell(date(2000, 1, 1)), cell(Decimal("3.0")))]
    assert same_rows([(1, "2000-01-01", 3)], ours, ordered=True)
    assert not same_rows([("1", "2000-01-01", 3)], ours, ordered=True)


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        ("INTEGER", ("1", "2")),
        ("numeric(8,2)", ("1", "2")),
        ("double precision", ("1", "2")),
        ("BOOLEAN", ("1", "2")),
        ("VARCHAR", ("'1'", "'2'")),
        ("INTEGER[]", ("'1'", "'2'")),
        ("interval", ("'1'", "'2'")),
        ("uuid", ("'1'", "'2'")),
        ("bytea", ()),
        ("BLOB", ()),
    ],
)
def test_an_example_is_a_literal_of_its_column_type(column_type, expected):
    assert example_literals(["1", "2", "3"], column_type, 2) == expected


@pytest.mark.parametrize(
    ("place", "dialect"),
    [
        ("duckdb:shop.duckdb", "duckdb"),
        ("postgresql://me@host/db", "postgres"),
        ("postgres://me@host/db", "postgres"),
        ("/data/duckdb/shop.sqlite", "sqlite"),
        ("", "sqlite"),
    ],
)
def test_a_url_names_its_engine(place, dialect):
    assert dialect_of(place) == DatabaseFiles(db_id="x", url=place).dialect == dialect
