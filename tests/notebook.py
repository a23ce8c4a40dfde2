"""Runs a notebook's cells in this process, without Jupyter: python -m tests.notebook NOTEBOOK writes its outputs anew."""

import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

Cell = dict[str, Any]


def run_cells(path: Path) -> Cell:
    """The notebook with the outputs that its cells gave, from the top, in the current folder."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = outputs_of("".join(cell["source"]), names, f"{path.name}, cell {number}")
    return notebook


def outputs_of(source: str, names: dict[str, Any], where: str) -> list[Cell]:
    """What a cell printed, and the figures that it left open."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, where, "exec"), names)
    outputs: list[Cell] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    for figure in map(plt.figure, plt.get_fignums()):
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=70, metadata={"Software": None})
        data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": ["<Figure>"]}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    plt.close("all")
    return outputs


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    with contextlib.chdir(sys.argv[2]) if len(sys.argv) > 2 else contextlib.nullcontext():
        done = run_cells(place)
    place.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
