"""A bookshop as a SQLite file, built from the golden text."""

from pathlib import Path

import apsw
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def bookshop(tmp_path: Path) -> Path:
    """The bookshop, alone in its folder."""
    path = tmp_path / "shop" / "bookshop.sqlite"
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.execute((GOLDEN / "bookshop.sql").read_text(encoding="utf-8"))
    connection.close()
    return path
