"""A bookshop as a SQLite file, built from the golden text."""

from pathlib import Path

import apsw
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def bookshop_bytes() -> bytes:
    """The file's content, made once."""
    connection = apsw.Connection(":memory:")
    connection.execute((GOLDEN / "bookshop.sql").read_text(encoding="utf-8")).fetchall()
    return connection.serialize("main")


@pytest.fixture
def bookshop(tmp_path: Path, bookshop_bytes: bytes) -> Path:
    """The bookshop, alone in its folder."""
    path = tmp_path / "shop" / "bookshop.sqlite"
    path.parent.mkdir()
    path.write_bytes(bookshop_bytes)
    return path
