"""What the model reads. A change of tests/golden/prompts is a change of every adapter's prompt."""

from pathlib import Path

import apsw
import pytest

from groundql.config import PromptSettings
from groundql.prompts import render as render_module
from groundql.prompts.render import RESERVED, prompt_fingerprint, quoted, render_prompt
from groundql.records import Column, Question
from tests.prompts.shop import CHAT_TURNS, PLAIN_TURNS, QUESTION, SHOP

GOLDEN_DIR = Path(__file__).parents[1] / "golden" / "prompts"
PROMPT = PromptSettings()


def rendered(question=QUESTION, schema=SHOP, *, settings=PROMPT, turns=PLAIN_TURNS):
    return render_prompt(question, schema, settings=settings, turns=turns, count_tokens=None)


@pytest.mark.parametrize(
    ("name", "turns", "settings"),
    [
        ("chat", CHAT_TURNS, PROMPT),
        ("plain", PLAIN_TURNS, PROMPT),
        ("plain-bare", PLAIN_TURNS, PromptSettings(descriptions=False, n_examples=0, evidence=False)),
        ("chat-without-schema", CHAT_TURNS, PromptSettings(schema=False)),
    ],
)
def test_the_whole_prompt_is_the_golden_one(name, turns, settings):
    prompt = rendered(settings=settings, turns=turns)
    golden = (GOLDEN_DIR / f"{name}.txt").read_text(encoding="utf-8")
    assert prompt.prefix + prompt.suffix == golden


def test_questions_of_one_database_share_the_prefix_and_nothing_of_the_question_is_in_it():
    other = Question(question_id="8", db_id="shop", text="Who is Zoë?")
    assert rendered().prefix == rendered(other).prefix
    assert "regular customers" not in rendered().prefix
    assert "grade = 'A'" in rendered().suffix


def test_no_hint_line_stands_where_there_is_no_evidence():
    assert "Hint" not in rendered(QUESTION.model_copy(update={"evidence": " "})).suffix


def test_values_stand_below_the_hint_as_sql_spells_them():
    values = {("customer", "Full Name"): ["Zoë", "O'Neil"], ("order", "note"): ["late"]}
    prompt = render_prompt(
        QUESTION, SHOP, settings=PROMPT, turns=PLAIN_TURNS, count_tokens=None, values=values
    )
    line = (
        "\nHint: regular: grade = 'A'\nValues: customer.`Full Name` = 'Zoë', 'O''Neil'; `order`.note = 'late'"
    )
    assert line in prompt.suffix
    assert prompt.prefix == rendered().prefix
    assert "Values" not in rendered().suffix


def test_the_prompt_never_holds_the_gold():
    asked = QUESTION.model_copy(update={"gold_sql": "SELECT 'the gold itself'"})
    assert rendered(asked) == rendered()


def test_tokens_are_counted_for_prefix_and_suffix_apart():
    counted = []
    prompt = render_prompt(
        QUESTION,
        SHOP,
        settings=PROMPT,
        turns=PLAIN_TURNS,
        count_tokens=lambda text: counted.append(text) or 10,
    )
    assert counted == [prompt.prefix, prompt.suffix]
    assert prompt.n_tokens == 20


def test_every_name_as_quoted_is_a_name_that_sqlite_reads_back():
    database = apsw.Connection(":memory:")
    for name in sorted({*RESERVED, "a b", "1st", "ä", "a-b", "x`y", 'x"y', "select"}):
        database.execute(f"CREATE TABLE {quoted(name)} ({quoted(name)} INTEGER, last_one INTEGER)")
        database.execute(f"INSERT INTO {quoted(name)} ({quoted(name)}) VALUES (5)")
        query = f"SELECT T1.{quoted(name)}, {quoted(name)} FROM {quoted(name)} AS T1 WHERE {quoted(name)} = 5"
        assert database.execute(query).fetchall() == [(5, 5)], name
        assert database.execute("SELECT name FROM sqlite_schema").fetchall() == [(name,)]
        database.execute(f"DROP TABLE {quoted(name)}")


@pytest.mark.parametrize("name", ["city", "_id", "T1", "Name2"])
def test_a_plain_name_is_left_as_it_is(name):
    assert quoted(name) == name


def test_the_fingerprint_changes_with_every_setting_of_the_prompt():
    changes = [
        {},
        {"max_tokens": 100},
        {"schema": False},
        {"evidence": False},
        {"descriptions": False},
        *({"n_examples": n} for n in (0, 1, 3, 4, 5)),
        *({"values": n} for n in (1, 20)),
        *({"dialect": dialect} for dialect in ("raw", "from_first")),
    ]
    assert {key for change in changes for key in change} == {
        field.alias or name for name, field in PromptSettings.model_fields.items()
    }
    found = {prompt_fingerprint(PromptSettings.model_validate(change), PLAIN_TURNS) for change in changes}
    assert len(found) == len(changes)


def test_the_fingerprint_is_taken_over_every_feature_of_a_schema(monkeypatch):
    """Each kind of note or key shows in what is hashed: without it, its wording could change unseen."""
    hashed = []
    render = render_module.render_prompt
    monkeypatch.setattr(
        render_module, "render_prompt", lambda *args, **kw: hashed.append(render(*args, **kw)) or hashed[-1]
    )
    prompt_fingerprint(PROMPT, PLAIN_TURNS)
    (prompt,) = hashed
    for part in (
        "CREATE TABLE `order` (\n",
        "CREATE TABLE shop ( -- where orders are placed\n",
        "id integer PRIMARY KEY,",
        "`Due Date` text, -- '2024-01-31', '2024-02-29'",
        "-- 'O'; O open, C closed",
        "shop integer REFERENCES shop(id)",
        "PRIMARY KEY (id, site)",
        "FOREIGN KEY (id, site) REFERENCES `order`(id, shop)",
    ):
        assert part in prompt.prefix
    assert "Hint: open" in prompt.suffix


def test_the_fingerprint_changes_with_every_mark():
    marks = [
        PLAIN_TURNS,
        *(PLAIN_TURNS.model_copy(update={name: "?"}) for name in type(PLAIN_TURNS).model_fields),
    ]
    assert len({prompt_fingerprint(PROMPT, turns) for turns in marks}) == len(marks) == 6


@pytest.mark.parametrize("wording", ["INSTRUCTION", "INSTRUCTION_WITHOUT_SCHEMA"])
def test_the_fingerprint_changes_with_the_wording(monkeypatch, wording):
    settings = PromptSettings(schema=wording == "INSTRUCTION")
    before = prompt_fingerprint(settings, PLAIN_TURNS)
    monkeypatch.setattr(f"groundql.prompts.render.{wording}", "Please answer.")
    assert prompt_fingerprint(settings, PLAIN_TURNS) != before


def test_the_fingerprint_is_of_the_prompt_and_not_of_the_data():
    assert prompt_fingerprint(PROMPT, CHAT_TURNS) == prompt_fingerprint(PROMPT, CHAT_TURNS)
    assert prompt_fingerprint(PROMPT, CHAT_TURNS) != prompt_fingerprint(PROMPT, PLAIN_TURNS)


def test_no_more_example_values_than_asked_and_none_for_keys():
    column = Column(name="note", examples=("'a'", "'b'", "'c'"))
    table = SHOP.tables[1].model_copy(update={"columns": (*SHOP.tables[1].columns[:4], column)})
    schema = SHOP.model_copy(update={"tables": (table,)})
    lines = rendered(schema=schema, settings=PromptSettings(n_examples=2)).prefix.splitlines()
    assert "note, -- 'a', 'b'" in lines
    assert (
        "customer integer REFERENCES customer(id), -- who paid" in lines
    )  # its example value would say nothing
