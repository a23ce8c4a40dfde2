"""Outcomes of queries on one database, kept on disk by content: the file's bytes, the SQL and the engine's version.

For gold queries, which are the same in every run. A file in the cache folder belongs to one state of one database, so
a changed database starts anew; deleting the folder costs time and nothing else. What was cut off, too large or not
the same each time is not kept.
"""

import functools
import hashlib
import marshal
import os
import re
import sys
from pathlib import Path

import apsw

from groundql.databases.files import cache_dir
from groundql.records import Outcome

OUTCOME_BYTES = 2**20  # one outcome; a larger one is run again
FILE_BYTES = 256 * 2**20  # all outcomes of one database
DIGEST_BYTES = 32
CHUNK_BYTES = (
    2**16
)  # of a file, read at a time: a larger one is new memory each time, which costs more than the hash
SPACE = re.compile(r"[ \t\r\n]+")


@functools.lru_cache(8192)
def same_text(sql: str) -> str:
    """A text that is equal for queries which differ only in white space and final semicolons.

    Only such white space is touched as stands outside texts, in queries without comments and quoted names.
    """
    sql = sql.strip(" \t\r\n").rstrip("; \t\r\n")
    if sql.isprintable() and "  " not in sql:
        return sql
    if '"' in sql or "`" in sql or "[" in sql or "--" in sql or "/*" in sql:
        return sql
    parts = sql.split("'")
    parts[::2] = [SPACE.sub(" ", part) for part in parts[::2]]
    return "'".join(parts)


class KeptOutcomes:
    """What is known of the queries of one SQLite file; `save` writes what is new. Not for several threads."""

    def __init__(self, database: Path, folder: Path | None = None) -> None:
        engine = f"{apsw.sqlite_lib_version()} {sys.version_info[:2]}"
        self.path: Path | None = None
        self._answers: dict[str, bytes] = {}
        self._n_bytes = 0
        self._is_new = False
        if os.path.exists(f"{database}-wal"):  # noqa: PTH110
            return  # the file is not all of the database
        digest, chunk = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES))
        with database.open("rb", buffering=0) as file:
            while n_bytes := file.readinto(chunk):
                digest.update(chunk[:n_bytes])
        digest.update(engine.encode())
        folder = folder or cache_dir() / "outcomes"
        self.path = folder / f"{database.stem}-{digest.hexdigest()[:24]}.kept"
        self._answers = self._read()

    @property
    def holds_any(self) -> bool:
        """Whether there is anything to `get`."""
        return bool(self._answers)

    def get(self, sql: str, *, deadline_s: float, max_rows: int, needs_steps: bool = True) -> Outcome | None:
        """The outcome under these limits; None where it is not known, or would not have been reached."""
        body = self._answers.get(same_text(sql))
        if body is None:
            return None
        columns, rows, elapsed_s, vm_steps = marshal.loads(body)
        if elapsed_s > deadline_s or len(rows) > max_rows or (needs_steps and vm_steps < 0):
            return None
        return Outcome.unchecked(
            status="ok", columns=columns, rows=rows, elapsed_s=elapsed_s, vm_steps=max(0, vm_steps)
        )

    def put(self, sql: str, outcome: Outcome, *, has_steps: bool = True) -> None:
        """Keep an outcome that ended well; its result must be the same each time."""
        if outcome.status != "ok" or self.path is None:
            return
        n_steps = outcome.vm_steps if has_steps else -1
        body = marshal.dumps((outcome.columns, outcome.rows, outcome.elapsed_s, n_steps))
        if len(body) <= OUTCOME_BYTES and self._n_bytes + len(body) <= FILE_BYTES:
            self._answers[same_text(sql)] = body
            self._n_bytes += len(body)
            self._is_new = True

    def save(self) -> None:
        """Write what is new; a folder that cannot be written costs the cache alone."""
        if not self._is_new or self.path is None:
            return
        try:
            if not _is_first(self.path, marshal.dumps(self._answers)):
                # another process may have written meanwhile
                _replace(self.path, marshal.dumps(self._read() | self._answers))
        except OSError:
            return
        self._is_new = False

    def _read(self) -> dict[str, bytes]:
        """What was kept; a file that is cut or damaged holds nothing."""
        try:
            content = self.path.read_bytes() if self.path else b""
        except OSError:
            return {}
        body = content[DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != content[:DIGEST_BYTES]:
            return {}
        answers: dict[str, bytes] = marshal.loads(body)
        self._n_bytes = len(body)
        return answers


def _is_first(path: Path, body: bytes) -> bool:
    """Whether there was no file yet, and one with this body is there now.

    It is written in place, which takes half the time: one that is cut off holds nothing, as none does.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        try:
            file = os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            file = os.open(path, flags, 0o666)
    except FileExistsError:
        return False
    try:
        os.writev(file, [hashlib.sha256(body).digest(), body])
    finally:
        os.close(file)
    return True


def _replace(path: Path, body: bytes) -> None:
    """Write beside the file, and rename: what it holds is not lost."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name}.{os.getpid()}")  # noqa: PTH118
    with open(beside, "wb", buffering=0) as file:  # noqa: PTH123
        file.write(hashlib.sha256(body).digest() + body)
    os.replace(beside, path)  # noqa: PTH105
