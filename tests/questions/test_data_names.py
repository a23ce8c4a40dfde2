"""What a DATA argument may say, and what a wrong one is told."""

from pathlib import Path

import pytest

from groundql.errors import DataError
from groundql.questions.load import load_data, split_spec


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("pocket", ("pocket", "", "")),
        ("pocket#dev", ("pocket", "", "dev")),
        ("bird:a/b#train", ("bird", "a/b", "train")),
        ("bird:a/b", ("bird", "a/b", "")),
        ("spider:C:/data#dev", ("spider", "C:/data", "dev")),
        ("bird:no.1#new#dev", ("bird", "no.1#new", "dev")),
    ],
)
def test_a_name_has_a_format_a_place_and_a_split(spec: str, parts: tuple[str, str, str]) -> None:
    assert split_spec(spec) == parts


def test_a_path_that_exists_keeps_its_hash_sign(tmp_path: Path) -> None:
    file = tmp_path / "questions#2.jsonl"
    file.touch()
    assert split_spec(f"jsonl:{file}") == ("jsonl", str(file), "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("poket", "did you mean pocket?"),
        ("brid:dir#dev", "did you mean bird?"),
        ("csv:dir", "it is one of pocket, bird, spider, jsonl"),
        ("pocket:dev", "takes no path; write pocket, pocket#train"),
        ("pocket#tset", "did you mean test?"),
        ("bird", "names no folder or file; DATA is pocket#dev, bird:DIR#train"),
        ("bird:#dev", "names no folder or file"),
        ("bird:nowhere#dev", "nowhere is not there; give the folder"),
        ("jsonl:nowhere.jsonl", "nowhere.jsonl is not there"),
        ("jsonl:nowhere.jsonl#dev", "nowhere.jsonl is not there"),
    ],
)
def test_a_wrong_name_is_told_the_right_one(spec: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert message in str(caught.value)


def test_a_bare_path_is_told_its_formats(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"names no format; write bird:{tmp_path}#dev or spider:{tmp_path}#dev"
    ):
        load_data(str(tmp_path))


def test_a_split_that_a_format_lacks_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bird has no split 'minidev'; did you mean mini_dev\?"):
        load_data(f"bird:{tmp_path}#minidev")
