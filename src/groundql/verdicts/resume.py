"""Verdicts of a run that was cut short: written as they come, found again by what they depend on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from groundql import __version__
from groundql.databases.engines import duckdb_path
from groundql.records import Completion, DatabaseFiles, DataSet, Verdict
from groundql.verdicts.cases import Judging

NAME = "verdicts.partial.jsonl"


class Partial:
    """A file beside `verdicts.jsonl` with a first line that names its run; use it as a context manager.

    `known` holds the verdicts of the same run before it was cut short: same data, predictions, settings, databases
    and version. Of another run nothing is taken, and the file begins anew. `remove` ends it.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / NAME
        self.fingerprint = fingerprint
        self.known: list[Verdict] = []
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.known = self._read()
        self._file = self.path.open("w", encoding="utf-8")
        self._file.write(self.fingerprint + "\n")
        for verdict in self.known:
            self.add(verdict)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, verdict: Verdict) -> None:
        """Write a complete verdict; it is on its way to the disk before the next is judged."""
        assert self._file is not None
        self._file.write(verdict.model_dump_json() + "\n")
        self._file.flush()

    def remove(self) -> None:
        """The run is complete: its verdicts lie elsewhere."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Verdict]:
        """The verdicts of the same run; a last line that was cut off is passed over."""
        if not self.path.is_file():
            return []
        first, *lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        if first != self.fingerprint:
            return []
        verdicts = []
        for line in lines:
            try:
                verdicts.append(Verdict.model_validate_json(line))
            except ValidationError:
                continue
        return verdicts


def run_fingerprint(data: DataSet, completions: Sequence[Completion], settings: Judging) -> str:
    """What the verdicts of a run depend on, as one line: content of questions and completions, settings, files, version."""
    digest = hashlib.sha256(f"{__version__} {settings} {data.fingerprint()}".encode())
    for completion in completions:
        digest.update(completion.model_dump_json().encode())
    for db_id in sorted(data.databases):
        digest.update(_stamp(data.databases[db_id]).encode())
    return f"groundql {digest.hexdigest()}"


def _stamp(files: DatabaseFiles) -> str:
    paths = [
        path for path in (files.sqlite_path, files.sql_path, files.tables_path) if path and path.is_file()
    ]
    if files.dialect == "duckdb":
        paths.append(duckdb_path(files.url))
    return f"{files.db_id} {files.rows} {files.url} " + " ".join(
        f"{p.stat().st_size} {p.stat().st_mtime_ns}" for p in paths
    )
