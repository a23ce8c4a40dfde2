"""Scalar functions that may be called, with how many arguments, checked against the SQLite that runs the queries."""

from functools import cache

import apsw

ANY = 6  # at most, where SQLite sets no limit
CANDIDATES = {  # name -> fewest and most arguments that may be written
    "ABS": (1, 1),
    "CEIL": (1, 1),
    "CEILING": (1, 1),
    "COALESCE": (2, ANY),
    "CONCAT": (2, ANY),
    "DATE": (0, 4),
    "DATETIME": (0, 4),
    "EXP": (1, 1),
    "FLOOR": (1, 1),
    "FORMAT": (2, ANY),
    "HEX": (1, 1),
    "IFNULL": (2, 2),
    "IIF": (3, 3),
    "INSTR": (2, 2),
    "JULIANDAY": (0, 4),
    "LENGTH": (1, 1),
    "LN": (1, 1),
    "LOG": (1, 2),
    "LOG10": (1, 1),
    "LOWER": (1, 1),
    "LTRIM": (1, 2),
    "MOD": (2, 2),
    "NULLIF": (2, 2),
    "POW": (2, 2),
    "POWER": (2, 2),
    "PRINTF": (2, ANY),
    "REPLACE": (3, 3),
    "ROUND": (1, 2),
    "RTRIM": (1, 2),
    "SIGN": (1, 1),
    "SQRT": (1, 1),
    "STRFTIME": (2, 5),
    "SUBSTR": (2, 3),
    "SUBSTRING": (2, 3),
    "TIME": (0, 4),
    "TRIM": (1, 2),
    "TYPEOF": (1, 1),
    "UNICODE": (1, 1),
    "UNIXEPOCH": (0, 4),
    "UPPER": (1, 1),
}

Arities = tuple[tuple[tuple[int, int], tuple[str, ...]], ...]


@cache
def arity_groups() -> Arities:
    """((fewest, most arguments), names) of the candidates that this SQLite has with every number of arguments between.

    Grouped, so that no two terminals of the grammar are spelt alike.
    """
    deployed = _deployed()
    groups: dict[tuple[int, int], list[str]] = {}
    for name, (least, most) in CANDIDATES.items():
        if all(any(_takes(n, count) for n in deployed.get(name, ())) for count in range(least, most + 1)):
            groups.setdefault((least, most), []).append(name)
    return tuple((arity, tuple(names)) for arity, names in sorted(groups.items()))


def _takes(n_declared: int, count: int) -> bool:
    """SQLite declares a number of arguments, -1 for any, or -2 - n for n and more."""
    return n_declared in (count, -1) or (n_declared < -1 and count >= -2 - n_declared)


def _deployed() -> dict[str, set[int]]:
    rows = apsw.Connection(":memory:").execute(
        "SELECT upper(name), narg FROM pragma_function_list WHERE type = 's'"
    )
    found: dict[str, set[int]] = {}
    for name, n_declared in rows:
        found.setdefault(str(name), set()).add(int(n_declared))
    return found
