"""Parameters of which a few run among the fast tests and the others among the slow ones."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(cases: Iterable[Any], n_fast: int = 1) -> list[Any]:
    """The cases, all but the first `n_fast` marked slow; a tuple is the values of one case."""
    listed = list(cases)
    marked = [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in listed[n_fast:]
    ]
    return [*listed[:n_fast], *marked]
