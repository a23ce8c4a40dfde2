"""The page in headless Chromium, clicked and typed in; a scripted model behind the real server."""

import json
from collections.abc import Iterator

import pytest

from groundql.serving.keys import Keys
from tests.reports.chromium import EXECUTABLE, Chromium
from tests.reports.test_page_in_browser import _FAINT_TEXTS
from tests.serving.served import QUERIES, desk_on, listening, make_databases

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="chromium is not installed: apt-get install chromium"),
]
KEY = "the-key-of-this-test-0"
XSS = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>'\"`</textarea></style>&lt;"
AMOUNTS = "Amount sold of each product"
READY = "document.querySelectorAll('#schema .table').length > 0"
CELLS = "[...document.querySelectorAll('#rows tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
MORE_QUERIES = QUERIES | {
    "Names": "SELECT name, price, NULL AS missing, 1152921504606846977 AS large, x'00ff' AS blob, 9e999 AS far FROM product",
    "By day": "SELECT day, amount FROM (SELECT '2024-01-31' AS day, 10 AS amount UNION ALL SELECT '2024-03-31', 5 UNION ALL SELECT '2024-02-29', 3)",
    "Attack": f"SELECT 1 AS \"{XSS.replace(chr(34), chr(34) * 2)}\", '{XSS.replace(chr(39), chr(39) * 2)}' AS b",
    "Slow": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("databases")
    hostile = f'CREATE TABLE "{XSS.replace(chr(34), chr(34) * 2)}" (a TEXT /* {XSS} */); INSERT INTO "{XSS.replace(chr(34), chr(34) * 2)}" VALUES (\'<b>\')'
    paths = make_databases(folder) | make_databases(folder, hostile=hostile)
    with desk_on(paths, MORE_QUERIES, query_s=1.0, delay_s=0.05) as desk, listening(desk) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page(browser, address) -> Chromium:
    """The page, as somebody sees it who was never there."""
    browser.errors.clear()
    browser.requests.clear()
    browser.go(address)
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.go(address)
    browser.wait_for(READY)
    return browser


def ask(page: Chromium, question: str) -> None:
    """Type a question and press Ctrl Enter; wait until something came of it."""
    page.run("document.getElementById('question').value = ''; document.getElementById('question').focus()")
    page.write(question)
    page.press("Enter", with_control=True)
    page.wait_for("!document.getElementById('go').disabled")


def test_a_question_becomes_sql_and_rows_by_clicks_and_nothing_is_loaded_from_elsewhere(page, address):
    page.click("#question")
    page.write("What costs more than 1.80?")
    page.click("#go")
    page.wait_for("!document.getElementById('result').hidden")
    sql = "SELECT name, price\nFROM product\nWHERE price > 1.8\nORDER BY price"
    assert page.run("document.getElementById('sql').value") == sql
    assert page.run(CELLS) == [["paper", "2"], ["ink", "4"]]
    assert page.run("document.getElementById('result-title').textContent") == "2 rows"
    words = page.run("[...document.querySelectorAll('#painted .kw')].map(e => e.textContent)")
    assert words == ["SELECT", "FROM", "WHERE", "ORDER", "BY"]
    assert page.run("document.getElementById('painted').textContent.trim()") == sql
    assert page.errors == []
    assert {url for url in page.requests if not url.startswith(("data:", address))} == set()


def test_edited_sql_runs_by_ctrl_enter_under_the_same_guard_and_undo_brings_it_back(page):
    ask(page, "How many products are there?")
    page.run("document.getElementById('sql').select()")
    page.write("SELECT name FROM product WHERE id = 2")
    assert page.run("document.querySelector('#painted .num').textContent") == "2"
    page.press("Enter", with_control=True)
    page.wait_for("!document.getElementById('run').disabled")
    assert page.run(CELLS) == [["ink"]]
    page.run("document.getElementById('sql').select()")
    page.write("DELETE FROM product")
    page.click("#run")
    page.wait_for("!document.getElementById('run').disabled")
    assert "Only one query that reads may run" in page.run("document.getElementById('say').textContent")
    assert page.run("document.getElementById('result').hidden")
    page.click("#undo")
    assert page.run("document.getElementById('sql').value") == QUERIES["How many products are there?"]
    page.click("#run")
    page.wait_for("!document.getElementById('run').disabled")
    assert page.run(CELLS) == [["3"]]


def test_cells_show_null_large_numbers_blobs_and_infinity_as_they_are(page):
    ask(page, "Names")
    assert page.run("document.getElementById('say').textContent") == ""
    assert page.run(CELLS)[0] == ["pen", "1.5", "NULL", "1152921504606846977", "blob, 2 bytes", "Infinity"]
    assert page.run("document.querySelector('#rows td.null').textContent") == "NULL"
    assert page.run("csv()").splitlines()[1] == "pen,1.5,,1152921504606846977,AP8=,Infinity"


def test_a_formula_in_a_cell_is_none_in_the_csv(page):
    saved = page.run("state.columns = ['a']; state.rows = [['=1+1'], ['@x'], [-5], ['a,\"b\"']]; csv()")
    assert saved.splitlines() == ["a", "'=1+1", "'@x", "-5", '"a,""b"""']


def test_an_abstention_is_said_in_words_and_shows_no_sql(page):
    ask(page, "What is love?")
    assert page.run("document.getElementById('say').textContent").startswith(
        "I can’t answer that from this schema"
    )
    assert page.run("document.getElementById('query').hidden && document.getElementById('result').hidden")


@pytest.mark.parametrize(
    ("question", "words"),
    [("Which colours are there?", "no such column: colour"), ("Slow", "did not end within 1 s")],
)
def test_a_query_that_fails_is_shown_with_the_engines_words(page, question, words):
    ask(page, question)
    assert words in page.run("document.getElementById('say').textContent")
    assert page.run("document.getElementById('sql').value").replace("\n", " ") == MORE_QUERIES[question]


def test_names_with_numbers_are_bars_and_days_are_a_line_in_order(page):
    ask(page, AMOUNTS)
    page.click("#tab-chart")
    assert page.run("document.getElementById('view-rows').hidden")
    assert page.run("[...document.querySelectorAll('.chart .label')].map(e => e.firstChild.data)") == [
        "pen",
        "ink",
    ]
    widths = page.run(
        "[...document.querySelectorAll('.chart rect')].map(e => Number(e.getAttribute('width')))"
    )
    assert widths[0] == pytest.approx(5 * widths[1])  # 15 and 3
    ask(page, "By day")
    titles = page.run("[...document.querySelectorAll('.chart circle title')].map(e => e.textContent)")
    assert titles == ["2024-01-31: amount 10", "2024-02-29: amount 3", "2024-03-31: amount 5"]
    ask(page, "How many products are there?")
    assert page.run("document.getElementById('tabs').hidden && document.getElementById('view-chart').hidden")


def test_the_tabs_go_by_arrow_keys(page):
    ask(page, AMOUNTS)
    page.run("document.getElementById('tab-rows').focus()")
    page.press("ArrowRight")
    assert page.run("document.activeElement.id") == "tab-chart"
    assert page.run("document.getElementById('tab-chart').getAttribute('aria-selected')") == "true"


def test_history_survives_a_reload_and_brings_a_question_back(page, address):
    ask(page, AMOUNTS)
    ask(page, "How many products are there?")
    page.go(address)
    page.wait_for(READY)
    listed = "[...document.querySelectorAll('#history button')].map(e => e.firstChild.data)"
    assert page.run(listed) == ["How many products are there?", AMOUNTS]
    page.click("#history li:nth-child(2) button")
    assert page.run("document.getElementById('question').value") == AMOUNTS
    assert "SUM(T2.amount)" in page.run("document.getElementById('sql').value")
    page.click("#run")
    page.wait_for("!document.getElementById('result').hidden")
    assert page.run(CELLS) == [["pen", "15"], ["ink", "3"]]
    assert "15" not in page.run("localStorage.getItem('groundql.history')")  # no row is kept
    page.click("#forget")
    assert page.run("document.querySelectorAll('#history li').length") == 0


def test_another_database_shows_its_own_schema(page):
    names = "[...document.querySelectorAll('#schema summary')].map(e => e.textContent)"
    assert page.run(names) == ["product", "sale"]
    page.run(
        "const d = document.getElementById('database'); d.value = 'club'; d.dispatchEvent(new Event('change'))"
    )
    page.wait_for(f"JSON.stringify({names}) === '[\"member\"]'")
    assert "'Ada', 'Grace'" in page.run("document.getElementById('schema').textContent")


def test_hostile_names_and_values_are_shown_and_not_run(page):
    page.run(
        "const d = document.getElementById('database'); d.value = 'hostile'; d.dispatchEvent(new Event('change'))"
    )
    page.wait_for("document.querySelector('#schema summary')?.textContent.includes('onerror')")
    ask(page, "Attack")
    assert page.run("document.querySelector('#rows th').textContent") == XSS
    assert page.run("document.querySelectorAll('#rows td')[1].textContent") == XSS
    ask(page, XSS)
    assert page.run("document.querySelector('#history button').firstChild.data") == XSS
    assert page.run("document.title") == "GroundQL"
    assert page.run("document.querySelectorAll('img, main script').length") == 0
    assert page.errors == []


def test_the_policy_stops_a_script_that_got_in_all_the_same(page):
    page.run(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)"
    )
    assert page.run("document.title") == "GroundQL"
    assert any("Content Security Policy" in error for error in page.errors)


def test_tab_goes_through_the_controls_in_the_order_of_reading(page):
    ask(page, AMOUNTS)
    page.run("document.activeElement.blur(); getSelection().removeAllRanges(); document.body.focus()")
    page.run("document.querySelector('.skip').focus()")
    order = []
    for _ in range(40):
        page.press("Tab")
        order.append(page.run("document.activeElement.id"))
    order = [name for name in order if name]
    wanted = [
        "database",
        "theme",
        "forget",
        "question",
        "go",
        "copy",
        "run",
        "sql",
        "tab-rows",
        "save",
        "rows",
    ]
    assert [name for name in order if name in wanted][: len(wanted)] == wanted


def test_every_control_has_a_name_for_those_who_hear_the_page(page):
    ask(page, AMOUNTS)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button",
        "combobox",
        "textbox",
        "tab",
        "table",
        "link",
        "image",
        "DisclosureTriangle",
        "tabpanel",
        "columnheader",
    }
    named = [node for node in nodes if node.get("role", {}).get("value") in roles and not node.get("ignored")]
    assert len(named) > 12
    assert [node for node in named if not node.get("name", {}).get("value")] == []
    assert page.run("document.querySelector('#status .sr').textContent") == "2 rows"


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_stands_out_from_its_ground(tmp_path, address, is_dark):
    # WCAG 2.2, 1.4.3: a ratio of at least 4.5. The editor's text is painted by the layer under it.
    with Chromium(tmp_path / "profile", is_dark=is_dark) as page:
        page.go(address)
        page.wait_for(READY)
        ask(page, AMOUNTS)
        page.click("#tab-chart")
        assert page.run(_FAINT_TEXTS) == []
        page.click("#theme")
        assert page.run(_FAINT_TEXTS) == []


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_window(tmp_path, address, width):
    with Chromium(tmp_path / "profile", width=width) as page:
        page.go(address)
        page.wait_for(READY)
        if width < 820:
            assert not page.run("document.getElementById('side').checkVisibility()")
            page.click("#fold")
            assert page.run("document.getElementById('side').checkVisibility()")
        for question in (AMOUNTS, "Names"):
            ask(page, question)
            assert page.run("document.documentElement.scrollWidth") == width
        height = (
            "document.getElementById('sql').scrollHeight <= document.getElementById('sql').clientHeight + 1"
        )
        assert page.run(height)  # the editor shows its whole text


def test_a_server_with_keys_asks_for_one_and_keeps_it_for_the_tab(tmp_path, tmp_path_factory):
    paths = make_databases(tmp_path_factory.mktemp("databases"))
    with (
        desk_on(paths) as desk,
        listening(desk, keys=Keys([KEY])) as address,
        Chromium(tmp_path / "profile") as page,
    ):
        page.go(address)
        for key in ("wrong", KEY):
            page.wait_for("document.getElementById('key-dialog').open")
            page.run("document.getElementById('key').focus()")
            page.write(key)
            page.press("Enter", "\r")
            page.wait_for("!document.getElementById('key-dialog').open")
        page.wait_for(READY)
        ask(page, AMOUNTS)
        assert page.run(CELLS) == [["pen", "15"], ["ink", "3"]]
        assert json.loads(page.run("JSON.stringify({...localStorage})")).get("groundql.key") is None


def test_a_server_that_has_gone_is_said_in_words(tmp_path, browser):
    with desk_on(make_databases(tmp_path)) as desk:
        with listening(desk) as address:
            browser.go(address)
            browser.wait_for(READY)
        ask(browser, AMOUNTS)
    assert "does not answer" in browser.run("document.getElementById('say').textContent")
