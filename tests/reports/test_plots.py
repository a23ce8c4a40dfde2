"""Plots: whole SVG in the page's own colours, safe whatever the labels say, and the same every time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from groundql.reports.plots import bars, columns, histogram

DRAWN = {
    "bars": lambda name: bars(name, "Title & more", {"a <b>": 3, "$x$ und $y$": 0, "名前": 5}, n_all=10),
    "columns": lambda name: columns(name, "Title", {0: 5, 1: 1200, 4: 1}, unit="joins"),
    "histogram": lambda name: histogram(name, "Title", [0, 1, 2], [3, 0], unit="tokens", marks={"median": 1}),
    "no bars": lambda name: bars(name, "Title", {}),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_plot_is_well_formed_and_has_a_title(kind: str) -> None:
    tree = ElementTree.fromstring(DRAWN[kind]("p"))
    assert tree.tag.endswith("svg")
    assert tree[0].text in ("Title", "Title & more")
    assert "width" not in tree.attrib  # the page decides


@pytest.mark.parametrize("kind", DRAWN)
def test_colours_are_the_pages_own(kind: str) -> None:
    text = DRAWN[kind]("p")
    assert not re.search(r"#[0-9a-f]{6}\b", text)
    assert "<style" not in text


def test_labels_stay_text_as_written() -> None:
    texts = [node.text for node in ElementTree.fromstring(DRAWN["bars"]("p")).iter() if node.text]
    assert {"a <b>", "$x$ und $y$", "名前", "3 · 30.0%"} <= set(texts)


def test_ids_of_two_plots_do_not_meet() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', DRAWN["histogram"](name))) for name in ("a", "b"))
    assert first
    assert not first & second


def test_what_a_plot_points_to_is_in_it() -> None:
    text = DRAWN["histogram"]("p")
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= ids


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert DRAWN["bars"]("p") == DRAWN["bars"]("p")
