"""The page in headless Chromium: it draws, filters, opens, survives hostile text, fits a phone, is quick."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundql.records import Completion, Prompt, ResultPreview, Verdict, write_jsonl
from groundql.reports.page import write_report
from tests.reports.chromium import EXECUTABLE, Chromium
from tests.reports.test_page import HOSTILE
from tests.reports.verdicts import climbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="chromium is not installed: apt-get install chromium"),
]
ROWS = "[...document.querySelectorAll('#list .q')].map(row => row.dataset.id)"
REACHED = {
    "untuned": ("ran", "ex_strict", "read_only", "", "ex_strict"),
    "tuned": ("ex_strict", "ran", "ran", "", "ex_strict"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page_path(tmp_path: Path) -> Path:
    for label, reached in REACHED.items():
        verdicts = [_verdict(place, up_to) for place, up_to in enumerate(reached)]
        write_jsonl(tmp_path / label / "verdicts.jsonl", verdicts)
        prompts = [
            Prompt(
                question_id=v.question_id,
                db_id=v.db_id,
                prefix="CREATE TABLE t\n",
                suffix=v.question,
                n_tokens=1234,
            )
            for v in verdicts
        ]
        write_jsonl(tmp_path / label / "prompts.jsonl", prompts)
    return write_report([tmp_path / "untuned", tmp_path / "tuned"], tmp_path / "out")


def _verdict(place: int, up_to: str) -> Verdict:
    return climbed(
        place,
        up_to,
        db_id="shop" if place % 2 else "bank",
        difficulty="simple" if place < 3 else "moderate",
        evidence=f"evidence {place}",
        gold_sql="SELECT name FROM t",
        predicted_sql="SELECT colour FROM t WHERE x = 'y'" if up_to else None,
        error="no such column: colour" if up_to == "read_only" else "",
        gold_result=ResultPreview(columns=("name",), rows=((2**60 + 1,), (None,), ("red",)), n_rows=9),
    )


def test_all_questions_are_listed_and_nothing_leaves_the_disk(browser, page_path):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(page_path)
    assert browser.run(ROWS) == ["0", "1", "2", "3", "4"]
    assert browser.run("document.getElementById('shown').textContent") == "5"
    assert browser.errors == []
    assert browser.requests == [page_path.resolve().as_uri()]


@pytest.mark.parametrize(
    ("fragment", "ids"),
    [
        ("outcome=gained:1", ["0"]),
        ("outcome=lost:1", ["1"]),
        ("outcome=both:1", ["4"]),
        ("outcome=neither:1", ["2", "3"]),
        ("outcome=0:grounded", ["2"]),
        ("outcome=1:wrong", ["1", "2", "3"]),
        ("cause=0:no such column", ["2"]),
        ("db=shop", ["1", "3"]),
        ("difficulty=moderate", ["3", "4"]),
        ("feature=no join&db=bank", ["0", "2", "4"]),
        ("text=EVIDENCE 3", ["3"]),
        ("text=colour no such", ["2"]),
        ("text=nowhere", []),
    ],
)
def test_the_address_filters_the_list(browser, page_path, fragment, ids):
    browser.open(page_path, fragment.replace(" ", "%20"))
    assert browser.run(ROWS) == ids


def test_typing_and_choosing_filters_and_clear_brings_all_back(browser, page_path):
    browser.open(page_path)
    browser.run("document.getElementById('f-text').focus()")
    for letter in "bank":
        browser.press(letter, letter)
    assert browser.run(ROWS) == ["0", "2", "4"]
    assert browser.run("location.hash") == "#text=bank"
    browser.run("document.querySelector('#filters [type=reset]').click()")
    assert browser.run(f"new Promise(done => setTimeout(() => done({ROWS}), 50))") == [
        "0",
        "1",
        "2",
        "3",
        "4",
    ]


def test_a_part_of_the_funnel_lists_its_questions(browser, page_path):
    browser.open(page_path)
    browser.run("document.querySelector('[aria-label=\"lost at grounded: 1 of 5\"]').click()")
    assert browser.run(ROWS) == ["2"]


def test_a_slice_lists_its_questions_and_follows_the_chosen_rung(browser, page_path):
    browser.open(page_path)
    shown = "[...document.querySelectorAll('#panels .slice')].find(row => row.textContent.startsWith('shop')).querySelector('.vals').textContent"
    assert browser.run(shown) == "50.00.0"
    browser.run(
        "const s = document.getElementById('slice-rung'); s.value = 'ran'; s.dispatchEvent(new Event('change'))"
    )
    assert browser.run(shown) == "50.050.0"
    browser.run(
        "[...document.querySelectorAll('#panels .slice button')].find(b => b.textContent === 'shop').click()"
    )
    assert browser.run(ROWS) == ["1", "3"]


def test_a_question_opens_by_keyboard_and_shows_everything(browser, page_path):
    browser.open(page_path)
    browser.run("document.querySelector('#list .q[data-id=\"2\"] summary').focus()")
    browser.press("Enter", "\r")
    browser.run("new Promise(done => setTimeout(done, 100))")
    body = browser.run("document.querySelector('#list .q[data-id=\"2\"] .body').innerText")
    for text in (
        "evidence 2",
        "SELECT name FROM t",
        "SELECT colour",
        "no such column: colour",
        "1152921504606846977",
        "NULL",
    ):
        assert text in body
    assert "9 rows, the first 3 shown" in body
    assert "Prompt, 1,234 tokens" in body
    assert browser.run("location.hash") == "#open=2"
    marked = browser.run("[...document.querySelectorAll('.q[open] .run0 .new')].map(e => e.textContent)")
    assert marked == ["colour", "WHERE", "x", "'y'"]
    browser.run(
        "document.querySelector('.q[open] .prompt').open = true; new Promise(done => setTimeout(done, 100))"
    )
    assert "CREATE TABLE t\nQuestion 2?" in browser.run(
        "document.querySelector('.q[open] .prompt pre').textContent"
    )


def test_the_address_opens_a_question(browser, page_path):
    browser.open(page_path, "open=3")
    assert browser.run("[...document.querySelectorAll('.q[open]')].map(row => row.dataset.id)") == ["3"]


def test_slash_goes_to_the_search(browser, page_path):
    browser.open(page_path)
    browser.press("/", "/")
    assert browser.run("document.activeElement.id") == "f-text"
    assert browser.run("document.activeElement.value") == ""


def test_every_control_has_a_name(browser, page_path):
    browser.open(page_path, "open=2")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "searchbox", "link", "region", "image", "DisclosureTriangle", "group"}
    nameless = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in roles - {"group"}
        and not node.get("ignored")
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_stands_out_from_its_ground(tmp_path, page_path, is_dark):
    # WCAG 2.2, 1.4.3: a ratio of at least 4.5
    with Chromium(tmp_path / "profile", is_dark=is_dark) as chromium:
        chromium.open(page_path, "open=2")
        assert chromium.run(_FAINT_TEXTS) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(tmp_path, page_path, width):
    with Chromium(tmp_path / "profile", width=width) as chromium:
        chromium.open(page_path, "open=2")
        assert chromium.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_not_run(browser, tmp_path, text):
    changes = {
        "question": text,
        "evidence": text,
        "gold_sql": text,
        "predicted_sql": text,
        "error": text,
        "db_id": text,
    }
    folder = tmp_path / "run"
    write_jsonl(folder / "verdicts.jsonl", [climbed("1", "ran", **changes)])
    write_jsonl(
        folder / "predictions.jsonl", [Completion(question_id="1", db_id=text, text=text + "!", sql=text)]
    )
    browser.errors.clear()
    browser.open(write_report([folder], tmp_path / "out"), "open=1")
    assert browser.errors == []
    assert browser.run("document.title") == "GroundQL report: run"
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.querySelector('.q .ask').textContent") == text
    assert browser.run("document.querySelector('.q[open] .card pre.sql').textContent") == text


def test_two_runs_on_1534_questions_open_in_seconds_from_a_few_mb(browser, tmp_path):
    prefix = "CREATE TABLE t (a TEXT, b TEXT);\n" * 400  # 13 kB, the size of a BIRD schema
    for label in ("a", "b"):
        verdicts = [
            climbed(i, "ran" if i % 3 else "ex_strict", question=f"Question {i} " * 8) for i in range(1534)
        ]
        write_jsonl(tmp_path / label / "verdicts.jsonl", verdicts)
        prompts = [
            Prompt(question_id=v.question_id, db_id="shop", prefix=prefix, suffix=v.question, n_tokens=4000)
            for v in verdicts
        ]
        write_jsonl(tmp_path / label / "prompts.jsonl", prompts)
    page = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert page.stat().st_size < 4_000_000
    start = time.monotonic()
    browser.open(page)
    assert time.monotonic() - start < 5
    assert browser.run("document.querySelectorAll('#list .q').length") == 200
    browser.run("document.getElementById('more').click()")
    assert browser.run("document.querySelectorAll('#list .q').length") == 400


# Texts whose contrast to the painted ground is below 4.5; colours are painted to read them.
_FAINT_TEXTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || /SCRIPT|STYLE|OPTION|OPTGROUP|TITLE/i.test(element.tagName)) continue;
    const grounds = [];
    for (let up = element; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const style = getComputedStyle(element);
    const [a, b] = [light(paint(...grounds, element.closest("svg") ? style.fill : style.color)), light(paint(...grounds))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.className} ${walker.currentNode.data.trim().slice(0, 30)}`);
  }
  return faint;
})()
"""
