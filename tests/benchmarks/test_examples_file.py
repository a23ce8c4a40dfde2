"""The file of encoded examples, and what the stock baselines count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.examples_file import load_examples, load_facts, save_examples
from groundql.training.examples import Example

IDS = st.lists(st.integers(0, 200_000), max_size=4).map(tuple)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("examples") / "examples.npz"


@given(examples=st.lists(st.builds(Example, NAMES, NAMES, IDS, IDS, IDS), min_size=1, max_size=6))
def test_examples_come_back_as_they_were_saved(place, examples):
    save_examples(place, examples, {"vocabulary": 7})
    assert load_examples(place) == examples
    assert load_facts(place) == {"vocabulary": 7}


def test_equal_prefixes_are_stored_once_and_come_back_as_one_object(tmp_path):
    prefix = tuple(range(5000))
    examples = [Example(str(i), "shop", prefix, (i,), (1, 2)) for i in range(50)]
    save_examples(tmp_path / "many.npz", examples, {})
    save_examples(tmp_path / "one.npz", examples[:1], {})
    many = load_examples(tmp_path / "many.npz")
    assert len({id(example.prefix) for example in many}) == 1
    assert (tmp_path / "many.npz").stat().st_size < 2 * (tmp_path / "one.npz").stat().st_size
