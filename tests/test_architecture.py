"""The dependency rule: which folder may import which, and where torch may be imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import groundql

SOURCE_DIR = Path(groundql.__file__).parent
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors")
NOUNS = {"records", "config", "errors"}
STAGES = {
    "databases": set(),
    "questions": set(),
    "prompts": set(),
    "models": set(),
    "training": {"models"},
    "decoding": {"models", "prompts", "databases"},
    "verdicts": {"databases"},
    "reports": set(),
}
JOINS = {
    "pipeline",
    "generating",
    "selecting",
    "encoding",
    "tuning",
    "evaluating",
    "answer",
    "projects",
    "exporting",
}
ALLOWED = (
    {"errors": set(), "config": {"errors"}, "records": {"errors"}}
    | {stage: NOUNS | further for stage, further in STAGES.items()}
    | {join: NOUNS | set(STAGES) | JOINS for join in JOINS}
    | {"serving": NOUNS | {"answer"}, "cli": NOUNS | set(STAGES) | JOINS | {"serving"}}
)
# Modules that may import torch when they are imported; elsewhere it is imported where it is used.
HEAVY_PLACES = (
    "models/load.py",
    "models/attention.py",
    "models/merge.py",
    "training/",
    "decoding/",
    "tuning.py",
    "encoding.py",
    "exporting.py",
)
VERBS_WITHOUT_TORCH = ("compare", "explore", "init", "judge", "mcp", "plan", "report", "sample")


def test_no_folder_imports_another_that_it_may_not():
    assert forbidden_edges(SOURCE_DIR) == []


def test_torch_and_its_kin_are_imported_only_where_they_are_needed():
    assert early_heavy_imports(SOURCE_DIR) == []


def test_every_folder_of_the_package_has_a_place_in_the_rule():
    named = {
        path.stem for path in SOURCE_DIR.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert named - {"__init__", "__main__"} <= set(ALLOWED)


@pytest.mark.parametrize(
    ("path", "line", "edge"),
    [
        ("questions/bird.py", "from groundql.databases.schema import read_schema", "databases"),
        ("records.py", "import groundql.config", "config"),
        ("reports/page.py", "def f():\n    from groundql.verdicts import judge", "verdicts"),
        ("verdicts/judge.py", "from groundql import tuning", "tuning"),
        ("prompts/render.py", "if TYPE_CHECKING:\n    from groundql.cli import app", "cli"),
    ],
)
def test_a_planted_forbidden_import_is_reported(tmp_path, path, line, edge):
    plant(tmp_path, path, line)
    assert forbidden_edges(tmp_path) == [f"{path} imports {edge}"]


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("verdicts/judge.py", "import torch", ["verdicts/judge.py imports torch"]),
        ("cli/train.py", "try:\n    from transformers import set_seed\nexcept ImportError:\n    pass", ["cli/train.py imports transformers.set_seed"]),
        ("cli/train.py", "def f():\n    import torch", []),
        ("generating.py", "if TYPE_CHECKING:\n    import torch", []),
        ("cli/train.py", "from groundql.models.load import load_base", ["cli/train.py imports groundql.models.load.load_base"]),
        ("cli/train.py", "from groundql import tuning", ["cli/train.py imports groundql.tuning"]),
        ("training/trainer.py", "import torch.nn", []),
    ],
)  # fmt: skip
def test_a_planted_early_torch_is_reported_and_a_late_one_is_not(tmp_path, path, line, found):
    plant(tmp_path, path, line)
    assert early_heavy_imports(tmp_path) == found


def test_judging_exploring_planning_and_reporting_work_where_torch_cannot_be_imported(tmp_path):
    """One interpreter in which these packages are absent runs the verbs that need none."""
    verbs = [verb for verb in VERBS_WITHOUT_TORCH if (SOURCE_DIR / "cli" / f"{verb}.py").is_file()]
    assert {"compare", "explore", "judge", "report", "sample"} <= set(verbs)
    script = f"""
import sys
sys.modules.update(dict.fromkeys({HEAVY!r}))  # None: importing it raises ImportError
from groundql.cli import main
for arguments in {[[verb, "--help"] for verb in verbs]!r} + [
    ["explore", "pocket#dev", "--model", "none", "--no-run", "--out", "explored"],
    ["sample", "pocket#dev", "--fraction", "0.1", "--out", "few.jsonl"],
    ["judge", "answers.sql", "--data", "jsonl:few.jsonl", "--out", "judged"],
    ["compare", "judged", "judged"],
    ["report", "judged"],
]:
    sys.argv = ["groundql", *arguments]
    if arguments[0] == "judge" and "--data" in arguments:
        n = sum(1 for _ in open("few.jsonl", encoding="utf-8"))
        open("answers.sql", "w").write("SELECT 1\\n" * n)
    try:
        main()
    except SystemExit as left:
        if left.code:
            sys.exit(f"{{arguments}} ended with {{left.code}}")
sys.argv = ["groundql", "train", "pocket-smollm2"]
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "ended with" not in ended.stderr
    assert (tmp_path / "judged" / "verdicts.jsonl").is_file()
    assert list((tmp_path / "judged").rglob("*.html"))
    last = ended.stderr.splitlines()[-1]  # what `groundql train` says there
    assert last.startswith("error: groundql train needs torch, transformers, peft: pip install torch")
    assert ended.returncode == 1


def plant(folder: Path, path: str, line: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(f"from typing import TYPE_CHECKING\n\n{line}\n")


def forbidden_edges(source_dir: Path) -> list[str]:
    """Each import, wherever in a module it stands, of a part of the package that the module's part may not import."""
    found = []
    for path, tree in modules(source_dir):
        here = path.parts[0].removesuffix(".py")
        for name in dict.fromkeys(own for node in ast.walk(tree) for own in own_parts(node)):
            if name != here and name not in ALLOWED.get(here, set(ALLOWED)):
                found.append(f"{path.as_posix()} imports {name}")
    return found


def early_heavy_imports(source_dir: Path) -> list[str]:
    """Each import of torch and its kin, or of a module of ours that has them, at import time of a module that may not."""
    found = []
    for path, tree in modules(source_dir):
        if not path.as_posix().startswith(HEAVY_PLACES):
            for node in at_import_time(tree):
                heavy = [n for n in imported(node) if n.split(".")[0] in HEAVY or is_heavy_place(n)]
                found += [f"{path.as_posix()} imports {name}" for name in heavy[:1]]
    return found


def is_heavy_place(name: str) -> bool:
    path = name.replace(".", "/") + "/"
    heavy = ["groundql/" + place.removesuffix(".py").rstrip("/") + "/" for place in HEAVY_PLACES]
    return path.startswith(tuple(heavy))


def modules(source_dir: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every module below `source_dir`: its path from there, and its tree."""
    for path in sorted(source_dir.rglob("*.py")):
        yield path.relative_to(source_dir), ast.parse(path.read_text(encoding="utf-8"))


def own_parts(node: ast.AST) -> list[str]:
    """Parts of this package that an import statement names: `databases` of `groundql.databases.schema`."""
    parts = [name.split(".") for name in imported(node)]
    return [part[1] for part in parts if part[0] == "groundql" and part[1:] and not part[1].startswith("__")]


def imported(node: ast.AST) -> list[str]:
    """Full names that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports are not used here"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Statements that run when a module is imported: not those in functions, nor under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)
