"""docs/results.md and README say what the stored rows say, and its numbers follow from the stored bits."""

import json

import pytest

from benchmarks import results_page
from benchmarks.error_analysis import rule_class, sampled
from benchmarks.error_table import CLASSES, ERRORS
from benchmarks.headline import BEST, headline_table, pair
from benchmarks.headline import line as stored_line
from benchmarks.row_files import bits_of, passed_in, restored, sections
from benchmarks.stored_results import ROWS, STORED, Line, paired_text, rate_text
from groundql.config import load_config

FILES = [path for path in STORED.values() if path.is_file()]


def test_the_page_is_what_the_stored_rows_give():
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page()


def test_the_first_screen_of_readme_has_the_headline_table():
    readme = (results_page.ROOT / "README.md").read_text(encoding="utf-8")
    assert headline_table() in readme[: readme.index("## Use")]


@pytest.mark.parametrize(
    ("one", "other", "data"),
    [
        ((BEST, "grounded"), (BEST, "free"), "spider-dev"),
        ((BEST, "grounded"), (BEST, "free"), "real-rows"),
        ((BEST, "grounded"), ("untuned", "grounded"), "spider-dev"),
        ((BEST, "grounded"), ("untuned", "grounded"), "real-rows"),
    ],
)
def test_the_differences_that_readme_tells_are_those_of_the_stored_bits(one, other, data):
    readme = (results_page.ROOT / "README.md").read_text(encoding="utf-8")
    told = readme[readme.index("## On real data") : readme.index("## Use")]
    assert pair(one, other, data, "ex_strict").partition(",")[0] in told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_stored_count_is_the_number_of_bits_set(path):
    for row in json.loads(path.read_text())["rows"]:
        for ways in row["judged"].values():
            for summary in ways.values():
                counted = {name: sum(passed_in(bits, summary["n"])) for name, bits in summary["bits"].items()}
                assert counted == summary["counts"]


def test_every_row_of_the_file_is_a_config_with_known_sets_and_ways():
    for section in sections(ROWS).values():
        for row in section["row"]:
            overrides = [*section["set"] * row.get("on_base", True), *row.get("set", []), *row.get("use", [])]
            load_config(row.get("config", section["config"]), overrides)
            assert set(row.get("ask", section["ask"])) <= set(section["asked"])
            assert set(row.get("ways", section["ways"])) <= set(section["way"])


def test_bits_come_back_with_leading_misses():
    passed = [False, False, True, False, True, True, False, True, False]
    assert passed_in(bits_of(passed), len(passed)) == passed


def summary(passed: list[bool]) -> dict[str, object]:
    return {"n": len(passed), "counts": {"ex_strict": sum(passed)}, "bits": {"ex_strict": bits_of(passed)}}


def line(passed: list[bool]) -> Line:
    return Line({"judged": {"set": {"free": summary(passed)}}}, "free")


def test_a_rate_is_in_percent_of_all_questions_with_wilson_s_interval():
    assert rate_text(summary([True] * 231 + [False] * 269), "ex_strict") == "46.2 [41.9, 50.6]"


def test_a_difference_counts_the_questions_on_which_just_one_is_right():
    ours = line([True] * 25 + [False] * 10 + [True] * 65)
    theirs = line([False] * 25 + [True] * 10 + [True] * 65)
    assert paired_text(ours, theirs, ["set"], "ex_strict") == "+15.0, p 0.017"


def test_an_answer_without_sql_comes_back_as_an_abstention():
    assert restored(["7", "db", None, None, "a", 0.5, 12, 0]).status == "abstained"
    assert restored(["7", "db", "SELECT 1", None, "a", 0.5, 12, 1]).status == "answer"


def test_each_sampled_failure_fails_has_a_known_class_and_is_there_once():
    found = json.loads(ERRORS.read_text(encoding="utf-8"))
    summary = stored_line(found["row"], found["way"]).of(found["data"])
    assert summary is not None
    failures = [i for i, right in enumerate(passed_in(summary["bits"]["ex_bird"], summary["n"])) if not right]
    assert found["n_failures"] == len(failures)
    drawn = [str(failures[place]) for place in sampled(len(failures), 100, found["seed"])]
    assert [error["id"] for error in found["errors"]] == drawn  # ids of Spider dev are row numbers
    assert {error["class"] for error in found["errors"]} <= set(CLASSES)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("SELECT a FROM t JOIN u ON t.i = u.i", "SELECT a FROM t", "join"),
        ("SELECT a FROM t JOIN u ON t.i = u.i", "SELECT a FROM t JOIN u ON t.i = u.k", "join"),
        ("SELECT a FROM t", "SELECT a FROM t EXCEPT SELECT a FROM t WHERE b = 1", "nesting"),
        ("SELECT SUM(a) FROM t", "SELECT AVG(a) FROM t", "aggregation"),
        ("SELECT a FROM t", "SELECT b FROM t", "column"),
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b >= 1", "condition"),
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 2", "value"),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", "order or limit"),
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t", "distinct"),
        ("SELECT a FROM t", "SELECT a FROM t", "other"),
    ],
)
def test_the_rule_names_the_one_thing_that_differs(gold: str, predicted: str, expected: str):
    assert rule_class(gold, predicted, False) == expected


def test_a_query_that_spider_s_script_takes_differs_in_its_columns_order():
    assert rule_class("SELECT a, b FROM t", "SELECT b, a FROM t", True) == "column order"
