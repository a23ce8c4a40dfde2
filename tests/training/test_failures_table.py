"""The table of failures names checks and tests that exist."""

import re
from pathlib import Path

import pytest

from groundql.training import preflight

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "training_failures.md").read_text(encoding="utf-8")
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)


def test_the_fifteen_reported_failures_and_ours_each_have_a_test():
    rows = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 15
    assert all("::test_" in row for row in rows)


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_test_that_the_table_names_is_there(path, name):
    assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_check_that_the_table_names_is_there():
    checks = re.findall(r"`((?:check|shown)_\w+)`", TABLE)
    assert len(set(checks)) >= 4
    assert all(callable(getattr(preflight, check)) for check in checks)
