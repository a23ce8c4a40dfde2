"""The functions of the SQLite in use: which are aggregates, which are windows, how many arguments they take."""

import functools
from typing import NamedTuple

import apsw

WINDOWS = frozenset(
    [
        *("ROW_NUMBER", "RANK", "DENSE_RANK", "PERCENT_RANK", "CUME_DIST", "NTILE"),
        *("LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"),
    ]
)
# Not for a query that only reads: they load code, write a log, or work on full-text and tree tables alone.
UNFIT = frozenset(
    [
        *("->", "->>", "BM25", "HIGHLIGHT", "LOAD_EXTENSION", "MATCH", "MATCHINFO"),
        *("OFFSETS", "OPTIMIZE", "SNIPPET", "SUBTYPE"),
    ]
)
UNFIT_STARTS = ("FTS", "GEOPOLY", "RTREE", "SQLITE_")
ANY = 127  # more arguments than the depth of any query lets one write


class Function(NamedTuple):
    """One function name, in upper case."""

    name: str
    scalar: tuple[tuple[int, int], ...]  # (fewest, most) arguments of each form that takes a row
    aggregate: tuple[tuple[int, int], ...]  # the same of those over rows
    window_only: bool

    def takes(self, n: int, *, over_rows: bool) -> bool:
        """Whether a form of it takes `n` arguments."""
        return any(low <= n <= high for low, high in (self.aggregate if over_rows else self.scalar))

    @property
    def most(self) -> int:
        """The most arguments that any form takes."""
        return max(high for _, high in self.scalar + self.aggregate)


@functools.cache
def deployed_functions() -> dict[str, Function]:
    """Every function of the SQLite that apsw carries, by name in upper case, less those that are unfit."""
    connection = apsw.Connection(":memory:")
    forms: dict[str, tuple[set[tuple[int, int]], set[tuple[int, int]]]] = {}
    for name, kind, n_arguments in connection.execute("SELECT name, type, narg FROM pragma_function_list"):
        upper = str(name).upper()
        if upper not in UNFIT and not upper.startswith(UNFIT_STARTS):
            both = forms.setdefault(upper, (set(), set()))
            both[kind != "s"].add(_arity(int(n_arguments)))
    connection.close()
    if "MAX" in forms:  # one argument: over rows; more: of one row
        for name in ("MAX", "MIN"):
            forms[name] = ({(2, ANY)}, {(1, 1)})
    return {
        name: Function(name, tuple(sorted(scalar)), tuple(sorted(aggregate)), name in WINDOWS)
        for name, (scalar, aggregate) in forms.items()
    }


def _arity(n: int) -> tuple[int, int]:
    """SQLite's narg: -1 any number, below that at least (-2 - n)."""
    if n >= 0:
        return n, n
    return (0, ANY) if n >= -2 else (-2 - n, ANY)
