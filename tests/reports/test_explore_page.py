"""The data page: whole, on its own, safe, and honest about units and rows."""

from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from groundql.questions.explore import GoldCheck, GoldFault, explore
from groundql.records import Column, DatabaseFiles, DataSet, Question, Schema, Table
from groundql.reports.explore_page import explore_page

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = '<script>alert(1)</script>"&'


class Page(HTMLParser):
    """Text, tags, ids and addresses of a page; fails where tags do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def facts(
    *, rows: Any = "real", evidence: str = "x", golds: bool = True, tokenizer: str = "", n: int = 30
) -> Any:
    questions = tuple(
        Question(
            question_id=str(number),
            db_id="shop",
            text=f"Question {number}?",
            evidence=evidence * (number % 7),
            gold_sql="SELECT id FROM sale" if number % 2 else "SELECT COUNT(*) FROM sale GROUP BY id",
            difficulty="simple" if number % 2 else "challenging",
        )
        for number in range(n)
    )
    data = DataSet(
        spec="jsonl:x.jsonl",
        name="jsonl",
        split=EVIL,
        questions=questions,
        databases={"shop": DatabaseFiles(db_id="shop", rows=rows)},
    )
    schema = Schema(db_id="shop", tables=(Table(name="sale", columns=(Column(name="id"),)),))
    fault = GoldFault(question_id="1", db_id="shop", stage="run", error=f"no such thing: {EVIL}", sql=EVIL)
    check = GoldCheck(
        n_gold=n,
        n_bound=n,
        n_bound_strictly=n - 2,
        n_run=n,
        n_ran=n - 1,
        n_with_rows=n - 1,
        deadline_s=30,
        faults=(fault,),
    )
    found = explore(
        data, {"shop": schema}, {"shop": "sale (id)"}, tokenizer=tokenizer, golds=check if golds else None
    )
    return found.model_dump(mode="json")


@cache
def text_of(**changes: Any) -> str:
    """The page; drawing it takes most of a second."""
    return explore_page(facts(**changes))


def test_the_page_is_well_formed_and_stands_alone() -> None:
    page = Page(text_of())
    assert page.tags.count("svg") >= 8
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith("#") for address in page.addresses)
    assert "link" not in page.tags
    assert "img" not in page.tags


def test_it_follows_the_readers_light_or_dark_and_the_phones_width() -> None:
    text = text_of()
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text


def test_texts_of_the_data_cannot_become_markup() -> None:
    page = Page(text_of())
    assert "script" not in page.tags
    assert f"no such thing: {EVIL}" in page.text


def test_numbers_are_those_of_the_facts() -> None:
    text = Page(text_of(n=1200)).text
    assert "1,200 questions" in text
    assert "1,199 golds run" in text
    assert "1,200 of 1,200 gold queries bind, 1,198 with double-quoted strings off." in text
    assert "1,199 of 1,200 ran within 30.0 s, 1,199 of them returned rows." in text


@pytest.mark.parametrize(
    ("changes", "said", "not_said"),
    [
        ({"rows": "synthetic"}, "Rows are synthetic in 1 of 1 databases", "Not checked"),
        ({"golds": False}, "Not checked", "golds bind"),
        ({}, "Lengths in characters", "tokens of"),
        ({"tokenizer": "some model"}, "Lengths in tokens Tokens of some model", "in characters, not tokens"),
        ({"evidence": ""}, "No question carries evidence.", "groundql sample"),
    ],
)
def test_what_the_reader_must_know_is_said(changes: dict[str, Any], said: str, not_said: str) -> None:
    text = Page(text_of(**changes)).text
    assert said in text
    assert not_said not in text


def test_a_data_set_of_one_question_makes_a_page() -> None:
    assert Page(text_of(n=1)).tags.count("svg") >= 8
