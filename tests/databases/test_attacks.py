"""Every attack of golden/attacks.sql: its outcome, and the database as it was."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundql.databases.executor import Executor

ATTACKS = Path(__file__).resolve().parents[1] / "golden" / "attacks.sql"
CASES = [
    (match[1], match[2], match[3].strip())
    for match in re.finditer(
        r"^-- (\w+): (.+)\n((?:.+\n?)+)", ATTACKS.read_text(encoding="utf-8"), re.MULTILINE
    )
]
TIMEOUT_S = 0.4  # what runs without end gets this
PATIENCE_S = 8.0  # what another guard stops gets this, on a busy machine too


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor() as executor:
        yield executor


def test_all_cases_are_read():
    assert len(CASES) == ATTACKS.read_text(encoding="utf-8").count("\n\n--")


@pytest.mark.parametrize(
    ("expected", "why", "sql"), CASES, ids=[f"{case[0]}: {case[2][:40]}" for case in CASES]
)
def test_an_attack_gets_its_outcome_and_changes_nothing(executor, bookshop, expected, why, sql, monkeypatch):
    monkeypatch.chdir(bookshop.parent)
    before = bookshop.read_bytes()
    started = time.monotonic()
    deadline_s = TIMEOUT_S if expected == "timeout" else PATIENCE_S
    outcome = executor.run(bookshop, sql, deadline_s=deadline_s)
    assert outcome.status == expected, outcome.error
    assert time.monotonic() - started < deadline_s + 2
    assert bookshop.read_bytes() == before
    assert [path.name for path in bookshop.parent.iterdir()] == ["bookshop.sqlite"]
    assert executor.run(bookshop, "SELECT COUNT(*) FROM book").rows == ((4,),)


def test_a_file_created_by_the_worker_would_be_seen(executor, bookshop):
    executor.run(bookshop, "VACUUM INTO 'copy.db'")
    executor.run(bookshop, "ATTACH 'stolen.db' AS s")
    assert not Path("copy.db").exists()
    assert not Path("stolen.db").exists()
