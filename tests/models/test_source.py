"""What a MODEL on the command line is taken for."""

import pytest

from groundql.errors import ModelMissing
from groundql.models.catalog import CATALOG
from groundql.models.source import find_base, is_run


@pytest.fixture
def weights_dir(tmp_path):
    """A folder that looks like weights; nothing in it is read here."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").touch()
    return tmp_path / "weights"


def test_a_folder_of_weights_is_itself(weights_dir):
    source = find_base(str(weights_dir))
    assert (source.folder, source.hub_id, source.gguf_path) == (weights_dir, None, None)


def test_a_gguf_file_is_itself(tmp_path):
    (tmp_path / "m.gguf").touch()
    assert find_base(str(tmp_path / "m.gguf")).gguf_path == tmp_path / "m.gguf"


@pytest.mark.parametrize("row", CATALOG.values(), ids=lambda row: row.name)
def test_a_catalog_name_or_its_hub_id_finds_its_row_whatever_the_case(row):
    for name in (row.name, row.hub_id, row.name.lower(), row.hub_id.upper()):
        source = find_base(name)
        assert source.row == row
        assert (source.hub_id == row.hub_id) != (source.gguf_path is not None)


def test_a_hub_id_that_no_row_has_is_taken_as_it_is():
    source = find_base("some-one/some.model")
    assert (source.hub_id, source.row) == ("some-one/some.model", None)


def test_a_home_folder_is_expanded(weights_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(weights_dir.parent))
    assert find_base("~/weights").folder == weights_dir


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Qwen2.5-Coder-1.5B", "did you mean Qwen2.5-Coder-1.5B-Instruct?"),
        ("smolm2-135m", "did you mean SmolLM2-135M-Instruct?"),
        ("xyz", "xyz is no folder, .gguf file, hub id or catalog name (SmolLM2-135M-Instruct, "),
        ("missing.gguf", "missing.gguf is not there"),
        ("a/b/c", "a/b/c is no folder, .gguf file, hub id or catalog name"),
    ],
)
def test_a_name_that_is_nothing_is_refused_with_the_nearest(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelMissing) as raised:
        find_base(name)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (
            "config.json",
            "weights holds no config.json: it is no model folder, and no run folder with an adapter",
        ),
        ("model.safetensors", "weights holds a config.json but no weights (*.safetensors)"),
    ],
)
def test_a_folder_without_weights_says_what_it_lacks(weights_dir, removed, message):
    (weights_dir / removed).unlink()
    with pytest.raises(ModelMissing) as raised:
        find_base(str(weights_dir))
    assert message in str(raised.value)


def test_a_run_is_a_folder_with_a_finished_adapter(tmp_path, weights_dir):
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    assert not is_run(str(tmp_path / "run"))
    (tmp_path / "run" / "adapter" / "adapter_config.json").touch()
    assert is_run(str(tmp_path / "run"))
    assert not is_run(str(weights_dir))
    assert not is_run("SmolLM2-135M-Instruct")
