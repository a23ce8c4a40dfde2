"""API keys: what a file may hold, and that nothing of them is kept or told."""

import hmac

import pytest

from groundql.errors import AskedWrongly, DataError
from groundql.serving import keys as keys_module
from groundql.serving.keys import Keys, is_readable_by_others, read_keys

GOOD, OTHER = "a-key-of-twenty-chars", "another-key-of-twenty"


def test_a_file_of_keys_is_read_and_each_key_has_its_number(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n{GOOD}\n\n  {OTHER}  \n")
    keys = read_keys(path)
    assert len(keys) == 2
    assert keys.number_of(GOOD) == 0
    assert keys.number_of(OTHER) == 1


@pytest.mark.parametrize(
    "near", ["", GOOD[:-1], GOOD + "x", GOOD.upper(), " " + GOOD, GOOD + "\n", "\udcff" * 20]
)
def test_what_is_near_a_key_is_none(near):
    assert Keys([GOOD]).number_of(near) is None


def test_every_key_is_compared_in_constant_time_whether_found_or_not(monkeypatch):
    compared = []

    compare_digest = hmac.compare_digest

    def compare(a, b):
        compared.append((a, b))
        return compare_digest(a, b)

    keys = Keys([GOOD, OTHER, GOOD + OTHER])
    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    for asked in (GOOD, GOOD + OTHER, "no key at all"):
        compared.clear()
        keys.number_of(asked)
        assert len(compared) == 3


def test_the_keys_themselves_are_not_kept():
    held = repr(vars(Keys([GOOD])))
    assert GOOD not in held


@pytest.mark.parametrize(
    "text", ["", "# none\n", "short\n", "one two three four five six\n", "ключключключключключ\n"]
)
def test_a_file_without_good_keys_is_refused(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(AskedWrongly):
        read_keys(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="keys is not there"):
        read_keys(tmp_path / "keys")


def test_a_file_that_others_may_read_is_noticed(tmp_path):
    path = tmp_path / "keys"
    path.write_text(GOOD)
    path.chmod(0o600)
    assert not is_readable_by_others(path)
    path.chmod(0o640)
    assert is_readable_by_others(path)
