"""API keys: read from a file, kept as hashes alone, compared in constant time."""

import hashlib
import hmac
import secrets
from pathlib import Path

from groundql.errors import AskedWrongly
from groundql.records import read_text

MIN_CHARS = 20  # `python -c "import secrets; print(secrets.token_urlsafe(32))"` makes 43


class Keys:
    """The keys that open a server; none: it is open.

    Every comparison looks at every key, so that its time tells nothing of which one was near. What is compared are
    SHA-256 hashes under a salt of this process: the keys themselves are not kept.
    """

    def __init__(self, keys: list[str]) -> None:
        self._salt = secrets.token_bytes(32)
        self._hashes = [self._hash(key) for key in keys]

    def __len__(self) -> int:
        return len(self._hashes)

    def _hash(self, key: str) -> bytes:
        return hashlib.sha256(self._salt + key.encode("utf-8", "surrogateescape")).digest()

    def number_of(self, key: str) -> int | None:
        """Which key this is, from 0; None where it is none of them."""
        given, found = self._hash(key), None
        for number, known in enumerate(self._hashes):
            if hmac.compare_digest(given, known):
                found = number
        return found


def read_keys(path: Path) -> Keys:
    """The keys in a file, one a line; blank lines and lines that begin with # are passed over.

    Raises:
        DataError: the file cannot be read.
        AskedWrongly: it holds no key, or one that could be guessed.
    """
    keys = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if len(key) < MIN_CHARS or not key.isascii() or not key.isprintable() or " " in key:
            raise AskedWrongly(
                f"{path}, line {number}: a key has at least {MIN_CHARS} ASCII characters without blanks; "
                'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
            )
        keys.append(key)
    if not keys:
        raise AskedWrongly(f"{path} holds no key: one a line")
    return Keys(keys)


def is_readable_by_others(path: Path) -> bool:
    """Whether other users of this machine may read the file."""
    return bool(path.stat().st_mode & 0o077)
