"""Which recipe suits the demo: trains SmolLM2-135M on pocket's training databases, scores on its dev databases.

    python benchmarks/pocket_recipes.py OUT_DIR MODEL [NAME ...]

The test databases are not touched. Each row is one run; all go to OUT_DIR/pocket_recipes.json.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from groundql.config import load_config
from groundql.generating import load_writer, write_completions
from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.tuning import tune

# What every row starts from, spelt out, so that the rows keep their names when the demo's config changes.
BASE = [
    "prompt.n_examples=1",
    "lora.rank=16",
    "lora.alpha=32",
    "training.pack_tokens=1536",
    "training.group_size=24",
    "training.learning_rate=1e-3",
    "training.schedule=cosine",
    "training.max_minutes=60",
    "generation.max_new_tokens=160",
]
RECIPES = {
    "lr 5e-4": ["training.learning_rate=5e-4"],
    "lr 1e-3": [],
    "lr 2e-3": ["training.learning_rate=2e-3"],
    "lr 4e-3": ["training.learning_rate=4e-3"],
    "no examples": ["prompt.n_examples=0"],
    "descriptions": ["prompt.n_examples=0", "prompt.descriptions=true"],
    "2 epochs": ["training.epochs=2"],
    "3 epochs": ["training.epochs=3"],
    "3 epochs, lr 2e-3": ["training.epochs=3", "training.learning_rate=2e-3"],
    "group 8": ["training.group_size=8"],
    "pack 3072": ["training.pack_tokens=3072"],
    "rank 32": ["lora.rank=32", "lora.alpha=64"],
    "q v": ['lora.targets=["q_proj", "v_proj"]'],
}


def run_recipe(model: str, overrides: list[str], folder: Path) -> dict[str, float]:
    """Train, generate on dev, judge: the shares of dev questions that pass each rung."""
    config = load_config("pocket-smollm2", [f"model.name={model}", *BASE, *overrides])
    info = tune(config, folder, say=lambda line: None)
    data = load_data("pocket#dev")
    writer = load_writer(str(folder))
    started = time.monotonic()
    _, completions = write_completions(writer.loaded.model, writer, data, settings=config.generation)
    elapsed_s = time.monotonic() - started
    verdicts = judge_completions(data, completions)
    n = len(verdicts)
    return {
        **{
            name: sum(getattr(v, name) is True for v in verdicts) / n
            for name in ("parsed", "grounded", "ran", "ex_strict")
        },
        "stopped": sum(c.stopped for c in completions) / n,
        "n": n,
        "generate_s": elapsed_s,
        **info.results,
    }


def main(out_dir: Path, model: str, names: list[str]) -> None:
    rows = {}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    for name in names or RECIPES:
        folder = Path(tempfile.mkdtemp())
        rows[name] = run_recipe(model, RECIPES[name], folder / "run")
        shutil.rmtree(folder)
        row = rows[name]
        print(
            f"{name:20} grounded {row['grounded']:.3f} ex_strict {row['ex_strict']:.3f} steps {row['n_steps']:.0f} "
            f"tokens {row['trained_tokens']:.0f} train {row['elapsed_s']:.0f} s generate {row['generate_s']:.0f} s",
            flush=True,
        )
        result = {
            "command": " ".join(sys.argv),
            "device": device,
            "torch": torch.__version__,
            "recipes": rows,
        }
        (out_dir / "pocket_recipes.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
