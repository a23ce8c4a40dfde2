"""Fixtures that several folders of tests share."""

import gc
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with BIRD and Spider; a test that asks for it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data (BIRD and Spider) is not on this machine")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _what_is_imported_is_no_garbage() -> None:
    """The Trainer collects garbage before each run: over all that torch and transformers imported, half a second."""
    gc.freeze()
