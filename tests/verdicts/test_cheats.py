"""Every measure against answers that know nothing of the question: each gets nothing, on every measure."""

import pytest

from groundql.records import Verdict
from tests.verdicts.conftest import GOLD

CHEATS = {
    "nothing": "",
    "prose": "hello world",
    "placeholder": "sql placeholder",
    "fence with prose": "```sql\nThe cheap books are Tides and Snow.\n```",
    "gold in a comment": f"SELECT 0 -- {GOLD}",
    "gold in a text": f"SELECT '{GOLD}'",
    "gold's name on other values": "SELECT name AS title FROM author",
    "no rows": "SELECT title FROM book WHERE 0",
    "everything twice": "SELECT * FROM book AS a, book AS b",
    "two statements": f"SELECT 1; {GOLD}",
    "a write": f"DELETE FROM book RETURNING title; {GOLD}",
}
RIGHT = {"ex_bird", "ex_strict", "ex_relaxed", "robust", "ast_equal", "ast_relaxed", "spider_exec", "spider_match", "spider_match_any_syntax"}  # fmt: skip
WORTH = {"soft_f1", "soft_f1_unordered", "ves", "r_ves"}
# What a cheat may have a share of, because it is a part and never the whole: it names it, reads it, or looks like it.
SHARES = {"ast_similarity", "link_precision", "link_recall", "link_f1"}
RUNGS = {"extracted", "sqlglot_accepts", "parsed", "read_only", "grounded", "ran"}
FAULTS = {"invented_table", "invented_alias", "invented_column", "misplaced_column", "invented_function", "foreign_value", "keyless_join"}  # fmt: skip

SAID = {"abstained", "strain"}  # what the writer says of itself; no measure


def test_every_measure_is_in_one_of_these_lists():
    measures = {
        name
        for name, field in Verdict.model_fields.items()
        if "bool" in str(field.annotation) or "float" in str(field.annotation)
    }
    assert measures == RIGHT | WORTH | SHARES | RUNGS | FAULTS | {"step_ratio"} | SAID


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_gets_nothing(judged, cheat):
    verdict = judged(CHEATS[cheat], n_timings=2, n_instances=1, spider=True)
    assert not any(getattr(verdict, name) for name in RIGHT)
    assert {getattr(verdict, name) for name in WORTH - {"soft_f1", "soft_f1_unordered"}} == {0}
    assert verdict.step_ratio is None
    if cheat != "everything twice":  # which holds some of the gold's cells, and pays for the others
        assert verdict.soft_f1 == verdict.soft_f1_unordered == 0
    assert verdict.soft_f1 < 0.2
    assert all((getattr(verdict, name) or 0) < 1 for name in ("ast_similarity", "link_f1"))


def test_reading_every_column_pays_in_precision(judged):
    verdict = judged("SELECT * FROM book, author")
    assert verdict.link_recall == 1
    assert verdict.link_precision < 0.5


def test_copying_the_answer_s_rows_falls_on_changed_rows(judged):
    verdict = judged("SELECT 'Tides' AS title UNION ALL SELECT 'Snow'", n_instances=3)
    assert verdict.ex_strict
    assert verdict.robust is False
    assert not verdict.ast_equal


@pytest.mark.parametrize(
    ("fault", "sql"),
    [
        ("invented_table", "SELECT title FROM books"),
        ("invented_alias", "SELECT x.title FROM book AS b"),
        ("invented_column", "SELECT colour FROM book"),
        ("misplaced_column", "SELECT country FROM book"),
        ("invented_function", "SELECT YEAR(title) FROM book"),
        ("foreign_value", "SELECT title FROM book WHERE title = 'Dune'"),
        ("keyless_join", "SELECT title FROM book JOIN author ON title = name"),
    ],
)
def test_a_fault_is_not_hidden_by_a_right_query_beside_it(judged, fault, sql):
    hidden = f"SELECT title FROM ({GOLD}) WHERE EXISTS ({sql})"
    assert getattr(judged(sql), fault)
    assert getattr(judged(hidden), fault)


def test_the_paper_s_rule_is_the_one_that_prose_cheats(judged):
    verdict = judged("hello world")
    assert verdict.sqlglot_accepts
    assert not any(getattr(verdict, name) for name in RUNGS - {"sqlglot_accepts"})
