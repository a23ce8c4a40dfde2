"""docs/results.md says what the stored rows say, and its numbers follow from the stored bits."""

import json

import pytest

pytest.importorskip("torch")  # rows are run by code that needs it

from benchmarks import results_page
from benchmarks.ablations import sections
from benchmarks.judge_rows import bits_of, passed_in, restored
from benchmarks.results_page import Line, paired_text, rate_text
from groundql.config import load_config

STORED = [path for path in results_page.STORED.values() if path.is_file()]


def test_the_page_is_what_the_stored_rows_give():
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page()


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_stored_count_is_the_number_of_bits_set(path):
    for row in json.loads(path.read_text())["rows"]:
        for ways in row["judged"].values():
            for summary in ways.values():
                counted = {name: sum(passed_in(bits, summary["n"])) for name, bits in summary["bits"].items()}
                assert counted == summary["counts"]


def test_every_row_of_the_file_is_a_config_with_known_sets_and_ways():
    for section in sections(results_page.ROWS).values():
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
