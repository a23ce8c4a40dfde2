"""The page, its Markdown and its JSON as text: what they hold, and that hostile text stays text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundql.records import Completion, Prompt, ResultPreview, Verdict, write_jsonl
from groundql.reports.browse import embed_json, shown_cell
from groundql.reports.page import write_report
from tests.reports.verdicts import climbed

HOSTILE = (
    "</script><script>document.title='broken'</script>",
    "<!--<script>",
    "]]>&lt;&amp;<img src=x onerror=\"document.title='broken'\">",
    "{{ 7 * 7 }}{% raw %}\u2028\u2029\x00",
    "| a | `b` \n# c",
)


class _Scripts(HTMLParser):
    """Texts of all script elements, as a browser cuts them out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_inside = tag == "script"
        if self._is_inside:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.found[-1] += data


def _page_data(page: str) -> dict[str, Any]:
    scripts = _Scripts(page).found
    assert len(scripts) == 2
    return json.loads(scripts[0])


def _write_run(folder: Path, verdicts: list[Verdict]) -> Path:
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    return folder


@pytest.fixture
def two_runs(tmp_path: Path) -> list[Path]:
    reached = {"untuned": "rr-s", "tuned": "sr-r"}
    rungs = {"s": "ex_strict", "r": "ran", "-": ""}
    return [
        _write_run(
            tmp_path / label, [climbed(i, rungs[c], difficulty="simple") for i, c in enumerate(letters)]
        )
        for label, letters in reached.items()
    ]


def test_three_files_say_the_same(two_runs, tmp_path):
    page_path = write_report(two_runs, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [run["label"] for run in facts["runs"]] == ["untuned", "tuned"]
    assert [run["tally"]["ex_strict"]["count"] for run in facts["runs"]] == [1, 1]
    assert facts["comparisons"][0]["rungs"]["ex_strict"]["gained"] == ["0"]
    assert facts["runs"][0]["fell"] == {"extracted": 1, "ex_bird": 2, "right": 1}
    assert (
        "| `ex_strict` | 1, 25.0 % [4.6, 69.9] | 1, 25.0 % [4.6, 69.9] |"
        in (tmp_path / "out" / "report.md").read_text()
    )
    assert "25.0 %" in page_path.read_text()


def test_the_page_names_no_other_file_and_no_host(two_runs, tmp_path):
    page = write_report(two_runs, tmp_path / "out").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|@import|url\(|https?://""", page)
    assert "default-src 'none'" in page


def test_a_question_of_both_runs_is_stored_once(two_runs, tmp_path):
    data = _page_data(write_report(two_runs, tmp_path / "out").read_text())
    assert len(data["questions"]) == 4
    assert [run["cause"] for run in data["questions"][0]["runs"]] == ["other rows", "right"]


def test_a_question_that_one_run_lacks_is_shown_as_not_judged(tmp_path):
    a = _write_run(tmp_path / "a", [climbed(1), climbed(2)])
    b = _write_run(tmp_path / "b", [climbed(2)])
    data = _page_data(write_report([a, b], tmp_path / "out").read_text())
    assert data["questions"][0]["runs"][1] is None


def test_runs_without_a_question_in_common_are_shown_and_not_compared(tmp_path):
    a, b = _write_run(tmp_path / "a", [climbed(1)]), _write_run(tmp_path / "b", [climbed(2)])
    assert "not compared" in write_report([a, b], tmp_path / "out").read_text()


def test_a_shared_prefix_is_stored_once(tmp_path):
    folder = _write_run(tmp_path / "a", [climbed(i) for i in range(5)])
    prompts = [
        Prompt(question_id=str(i), db_id="shop", prefix="CREATE", suffix=f"q{i}", n_tokens=9)
        for i in range(5)
    ]
    write_jsonl(folder / "prompts.jsonl", prompts)
    data = _page_data(write_report([folder], tmp_path / "out").read_text())
    assert data["prefixes"] == ["CREATE"]
    assert data["prompts"][data["questions"][3]["runs"][0]["prompt"]] == [0, "q3", 9]


def test_verdicts_without_any_rows_reach_no_higher_than_grounded(tmp_path):
    no_rows = {
        "ran": None,
        "ex_bird": None,
        "ex_strict": None,
        "rows": "none",
        "gold_fault": "no rows at hand",
    }
    verdicts = [climbed(1, "grounded", **no_rows), climbed(2, "parsed", **no_rows)]
    data = _page_data(write_report([_write_run(tmp_path / "a", verdicts)], tmp_path / "out").read_text())
    assert data["chain"][-1] == "grounded"
    assert [q["runs"][0]["fell"] for q in data["questions"]] == ["", data["chain"].index("read_only")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text, tmp_path):
    verdict = climbed(
        text, "ran", question=text, evidence=text, gold_sql=text, predicted_sql=text, error=text, db_id=text,
        gold_fault=text, gold_result=ResultPreview(columns=(text,), rows=((text,),), n_rows=1),
    )  # fmt: skip
    folder = _write_run(tmp_path / "a", [verdict])
    write_jsonl(
        folder / "predictions.jsonl", [Completion(question_id=text, db_id=text, text=text + "!", sql=text)]
    )
    (folder / "settings.json").write_text(json.dumps({text: text}))
    page = write_report([folder], tmp_path / "out").read_text()
    question = _page_data(page)["questions"][0]
    assert {question[key] for key in ("id", "db", "text", "evidence", "gold", "gold_fault")} == {text}
    assert question["gold_result"] == {"columns": [text], "rows": [[text]], "n": 1}
    assert question["runs"][0]["text"] == text + "!"
    assert not re.search(r"<img|<script>document", page)


@given(
    st.recursive(
        st.text() | st.none() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_embedded_json_reads_back_and_holds_no_markup(value):
    text = embed_json(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)


def test_half_a_character_is_written_as_an_escape():
    assert embed_json("\ud83d") == '"\\ud83d"'


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, None),
        ("1", "1"),
        (1, ["1"]),
        (1.0, ["1.0"]),
        (2**60 + 1, ["1152921504606846977"]),
        (float("inf"), ["inf"]),
        (b"\x00\xff", ["x'00ff'"]),
    ],
)
def test_cells_keep_what_javascript_would_lose(cell, shown):
    assert shown_cell(cell) == shown


def test_training_is_drawn_and_its_facts_are_listed(tmp_path):
    folder = _write_run(tmp_path / "run" / "judged" / "tuned", [climbed(1)]).parents[1]
    (folder / "log.jsonl").write_text('{"step": 10, "loss": 2.0}\n{"step": 20, "loss": 1.0}\n')
    (folder / "settings.json").write_text('{"lora": {"rank": 32}}')
    page = write_report([folder], tmp_path / "out").read_text()
    assert "<dt>settings.lora.rank</dt><dd>32</dd>" in page
    assert "Loss over steps: loss, training from 2 to 1" in page


def test_a_label_with_bytes_that_are_no_utf8_is_written_with_a_mark(tmp_path):
    folder = tmp_path / "run\udcff"
    page = write_report([_write_run(folder, [climbed(1)])], tmp_path / "out").read_text()
    assert "run?" in page


def test_invented_names_and_means_are_shown_once_judged(tmp_path):
    verdict = climbed(1, "read_only", invented_column=True, r_ves=0.5, findings=("invented column: colour",))
    page = write_report([_write_run(tmp_path / "a", [verdict])], tmp_path / "out").read_text()
    assert "Invented names" in page
    assert "0.500" in page
    run = _page_data(page)["questions"][0]["runs"][0]
    assert (run["cause"], run["findings"]) == ("invented column", ["invented column: colour"])
