"""The rungs, case by case from golden/ladder.sql, and what stands beside them."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.databases.binding import twin_from_ddl
from groundql.pipeline import judge_completions
from groundql.prompts.extract import extract_sql
from groundql.records import Completion, DatabaseFiles, Strain
from groundql.verdicts.ladder import climb
from groundql.verdicts.parsing import depends_on_clock_or_chance, is_ordered, parse_query, sqlglot_accepts
from tests.verdicts.conftest import BOOKSHOP, GOLD, completion, data_of

LADDER = Path(__file__).resolve().parents[1] / "golden" / "ladder.sql"
CASES = re.findall(
    r"^-- (\w+): (.+)\n((?:.+\n?)+)", LADDER.read_text(encoding="utf-8").split("\n\n", 1)[1], re.M
)
RUNGS = ("extracted", "parsed", "read_only", "grounded", "ran", "ex_strict")


def test_all_cases_are_judged_in_one_run_as_the_file_says():
    data = data_of([GOLD] * len(CASES))
    answers = [completion(sql, str(number)) for number, (_, _, sql) in enumerate(CASES)]
    verdicts = judge_completions(data, answers)
    found = [([rung for rung in RUNGS if getattr(verdict, rung)] or ["nothing"])[-1] for verdict in verdicts]
    assert [(case[0], case[2]) for case in CASES] == list(
        zip(found, [case[2] for case in CASES], strict=True)
    )
    for verdict in verdicts:
        passed = [bool(getattr(verdict, rung)) for rung in RUNGS]
        assert passed == sorted(passed, reverse=True)  # each rung implies the one before
        assert bool(verdict.error) == (not verdict.ex_strict)


def test_a_fence_and_chatter_cost_nothing(judged):
    assert judged(f"Here is the query:\n```sql\n{GOLD};\n```\nIt finds the cheap ones.").ex_strict


def test_the_paper_s_rule_accepts_what_no_engine_does(judged):
    prose = judged("hello world")
    assert prose.sqlglot_accepts
    assert not prose.extracted
    assert not prose.ex_bird


def test_ex_bird_runs_quoted_strings_as_the_official_script_does(judged):
    verdict = judged('SELECT title FROM book WHERE title IN ("Tides", "Snow")')
    assert (verdict.grounded, verdict.ran, verdict.ex_strict) == (False, False, False)
    assert verdict.ex_bird


def test_ex_bird_takes_rows_as_sets_and_ex_strict_as_bags(judged):
    verdict = judged("SELECT title FROM book WHERE price = 10 UNION ALL SELECT 'Snow'")
    assert verdict.ex_bird
    assert not verdict.ex_strict
    assert verdict.error == "3 rows, gold has 2"


def test_order_counts_where_the_outer_gold_orders(judged):
    ordered, reverse = "SELECT title FROM book ORDER BY title", "SELECT title FROM book ORDER BY title DESC"
    assert not judged(reverse, gold=ordered).ex_strict
    assert judged(reverse, gold=ordered).error == "the same rows in another order"
    assert judged(reverse, gold="SELECT title FROM book").ex_strict
    assert judged(reverse, gold="SELECT title FROM (SELECT title FROM book ORDER BY title)").ex_strict


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t UNION SELECT b FROM t ORDER BY 1", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x ORDER BY 1", True),
        ("WITH x AS (SELECT 1 ORDER BY 1) SELECT * FROM x", False),
        ("SELECT a FROM t WHERE b = 'order by'", False),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u ORDER BY c LIMIT 1)", False),
        ("SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t", False),
    ],
)
def test_order_is_read_from_the_tree(sql, ordered):
    assert is_ordered(sql) == ordered


def test_a_gold_that_does_not_run_is_listed_and_judges_nothing(judged):
    verdict = judged(GOLD, gold="SELECT a FROM nowhere")
    assert verdict.gold_fault == "gold does not run: no such table: nowhere"
    assert verdict.ran
    assert verdict.ex_bird is False  # the official script scores 0
    assert verdict.ex_strict is None


def test_gold_faults_are_listed_together(judged):
    assert judged(GOLD, gold="SELECT 1 WHERE date('now') < '2000'").gold_fault == (
        "gold returns no rows; gold depends on the clock or on chance"
    )
    assert judged(GOLD, gold=None).gold_fault == "no gold SQL"
    assert "double quotes" in judged(GOLD, gold='SELECT title FROM book WHERE title = "Snow"').gold_fault


def test_a_gold_beyond_the_deadline_is_a_fault_of_the_gold(judged):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    verdict = judged(GOLD, gold=endless, deadline_s=0.2)
    assert verdict.gold_fault.startswith("gold did not end within 0.2 s")


@pytest.mark.parametrize(
    ("sql", "depends"),
    [
        ("SELECT CURRENT_DATE", True),
        ("SELECT STRFTIME('%Y', 'now')", True),
        ("SELECT a FROM t ORDER BY RANDOM()", True),
        ("SELECT datetime()", True),
        ("SELECT date(a) FROM t WHERE current = 1 -- now", False),
    ],
)
def test_clock_and_chance_are_seen(sql, depends):
    assert depends_on_clock_or_chance(sql) == depends


def test_without_rows_the_rungs_that_need_them_are_undecided():
    files = BOOKSHOP.model_copy(update={"sql_has_rows": False})
    data = data_of([GOLD, "SELECT x FROM y"], files)
    first, second = judge_completions(data, [completion(GOLD), completion("SELECT titel FROM book", "1")])
    assert first.grounded
    assert not second.grounded
    for verdict in (first, second):
        assert (verdict.ran, verdict.ex_bird, verdict.ex_strict, verdict.rows) == (None, None, None, "none")
    assert first.gold_fault == "no rows at hand to run on"
    assert second.gold_fault == "gold does not bind: no such table: y"


def test_a_prediction_that_does_not_end_is_marked_with_its_deadline(judged):
    verdict = judged(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
        deadline_s=0.2,
    )
    assert verdict.grounded
    assert verdict.ran is False
    assert verdict.error == "timeout: did not end within 0.2 s"


def test_previews_show_the_head_of_both_results(judged):
    verdict = judged(
        "SELECT replace(printf('%0200d', 1), '0', 'x') AS long, x'00ff' AS raw FROM book, author"
    )
    assert verdict.gold_result.rows == (("Tides",), ("Snow",))
    assert verdict.predicted_result.n_rows == 12
    assert len(verdict.predicted_result.rows) == 5
    assert len(verdict.predicted_result.rows[0][0]) == 80
    assert verdict.predicted_result.rows[0][1] == "x'00ff'"


def test_one_of_many_databases_missing_does_not_stop_the_others(tmp_path):
    gone = DatabaseFiles(db_id="bookshop", sqlite_path=tmp_path / "gone.sqlite", sql_path=BOOKSHOP.sql_path)
    (verdict,) = judge_completions(data_of([GOLD], gone), [completion(GOLD)])
    assert verdict.ran is None
    assert verdict.grounded


TWIN = twin_from_ddl(BOOKSHOP.sql_path.read_text(encoding="utf-8").split("INSERT")[0])
WORDS = st.sampled_from(
    [
        "select",
        "from",
        "where",
        "with",
        "as",
        "(",
        ")",
        ",",
        ";",
        "'",
        '"',
        "`",
        "--",
        "/*",
        "*/",
        "```sql",
        "```",
        "\n",
        "\n\n",
        "book",
        "title",
        "author",
        "=",
        "1",
        "union",
        "order",
        "by",
        "case",
        "when",
        "then",
        "end",
        "in",
        "(",
        "select",
        "delete",
        "update",
        "pragma",
        "explain",
        "�",
        "\x00",
        "[",
        "]",
        "<think>",
        "</think>",
        "SQL:",
        "Answer:",
        "The",
        "query",
        "returns",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map(" ".join)))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_extractor_or_ladder_raise(text):
    sql = extract_sql(text)
    rungs = climb(Completion.model_construct(question_id="0", db_id="", text=text, sql=sql), TWIN.prepare)
    assert rungs.extracted >= rungs.parsed >= rungs.read_only >= rungs.grounded
    if sql is not None:
        assert extract_sql(sql) == sql


@pytest.mark.parametrize("n", [100, 1000, 20_000])
@pytest.mark.parametrize(
    "unit", ["(", "SELECT (", "NOT ", "CASE WHEN ", "1 + ", "SELECT * FROM (", "a.", "[", "-"]
)
def test_deep_and_long_nonsense_ends_soon_and_is_refused(n, unit):
    sql = "SELECT " + unit * n
    assert parse_query(sql) is None or TWIN.prepare(sql) is not None
    sqlglot_accepts(sql)


def test_an_abstention_is_told_from_an_answer_without_sql():
    strain = Strain(total=0.5, largest=0.3, at=2)
    answer = Completion(
        question_id="0",
        db_id="",
        text="",
        sql=None,
        status="abstained",
        reason="no table fits",
        strain=strain,
    )
    (verdict,) = judge_completions(data_of([GOLD]), [answer])
    assert (verdict.extracted, verdict.ex_strict, verdict.abstained, verdict.strain) == (
        False,
        False,
        True,
        0.5,
    )
    assert verdict.error == "abstained: no table fits"
