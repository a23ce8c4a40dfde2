"""An ablation's rows as files: their plan, completions cut to what a verdict needs, a bit a verdict, one archive, adapters in parts.

Nothing here needs torch, so that the results page can be drawn without it.
"""

import fcntl
import json
import shutil
import tarfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundql.records import Completion, Strain

STATUS = {"f": "free", "a": "answer"}

PART_BYTES = 15 * 2**20


def compact(completion: Completion) -> list[Any]:
    """What a verdict needs: id, database, SQL, the text where it says something else, status, strain, tokens, stopped."""
    text = completion.text if completion.text.strip() != (completion.sql or "").strip() else None
    strain = None if completion.strain is None else round(completion.strain.total, 2)
    return [
        completion.question_id,
        completion.db_id,
        completion.sql,
        text,
        completion.status[0],
        strain,
        completion.n_new_tokens,
        int(completion.stopped),
    ]


def restored(compact: Sequence[Any]) -> Completion:
    """A completion from `compact`; an abstention and an answer share their first letter, the SQL tells."""
    question_id, db_id, sql, text, letter, strain, n_new, stopped = compact
    kind = STATUS[letter] if letter == "f" or sql is not None else "abstained"
    return Completion(
        question_id=question_id,
        db_id=db_id,
        text=(sql or "") if text is None else text,
        sql=sql,
        status=kind,
        strain=None if strain is None else Strain(total=strain, largest=strain),
        n_new_tokens=n_new,
        stopped=bool(stopped),
    )


def bits_of(passed: Sequence[bool]) -> str:
    """A bit a question, the first the highest, as hexadecimal digits.

    >>> bits_of([True, False, True]), passed_in("5", 3)
    ('5', [True, False, True])
    """
    return f"{int(''.join('01'[one] for one in passed) or '0', 2):x}"


def passed_in(bits: str, n: int) -> list[bool]:
    """The other way round."""
    return [digit == "1" for digit in f"{int(bits, 16):0{n}b}"]


def sections(path: Path) -> dict[str, dict[str, Any]]:
    """The row file's sections, checked for doubled names."""
    found: dict[str, dict[str, Any]] = tomllib.loads(path.read_text())
    for section in found.values():
        names = [row["name"] for row in section["row"]]
        assert len(set(names)) == len(names), "two rows of one name"
    return found


def bundle(rows_dir: Path, out: Path) -> None:
    """All rows so far as one archive, which appears whole; one process at a time."""
    with (rows_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        beside = rows_dir / "bundle.part"
        with tarfile.open(beside, "w:xz", preset=3) as archive:
            for path in sorted(rows_dir.glob("*.json")):
                archive.add(path, arcname=path.name)
        shutil.copyfile(beside, out.with_suffix(".part"))
        out.with_suffix(".part").replace(out)


def save_adapter(run_dir: Path, out: Path, name: str) -> None:
    """The run folder with its adapter in fp16, as a tar in parts of at most PART_BYTES."""
    from safetensors.torch import load_file, save_file

    beside = run_dir.parent / f"half-{name}"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(run_dir, beside, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    weights = beside / "adapter" / "adapter_model.safetensors"
    save_file({key: value.half() for key, value in load_file(weights).items()}, weights)
    whole = beside.with_suffix(".tar")
    with tarfile.open(whole, "w") as archive:
        archive.add(beside, arcname=name)
    data = whole.read_bytes()
    for i, start in enumerate(range(0, len(data), PART_BYTES)):
        (out / f"{name}.tar.{i:02}").write_bytes(data[start : start + PART_BYTES])
    whole.unlink()
    shutil.rmtree(beside)


def start_over(scratch: Path, go_on: bool) -> set[str]:
    """An empty folder, or one that holds finished rows alone; the names of these."""
    if not go_on:
        shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "rows").mkdir(parents=True, exist_ok=True)
    done = {path.stem for path in scratch.glob("rows/*.json") if json.loads(path.read_text())["complete"]}
    for folder in scratch.glob("run-*"):
        if folder.name.removeprefix("run-") not in done:
            shutil.rmtree(folder)
    return done
