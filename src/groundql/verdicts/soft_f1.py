"""Soft-F1, the share of cells that two results have in common: the official score, and one that rows' order cannot move."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from groundql.records import Row
from groundql.verdicts.rows import cell_key

MAX_EXACT_ROWS = 64  # rows without an equal partner that are paired at best; more are paired greedily

Cells = Counter[Hashable]


def soft_f1(gold: Sequence[Row], predicted: Sequence[Row]) -> float:
    """BIRD mini-dev's Soft-F1: row i against row i, so that rows in another order score nothing.

    Duplicate rows are removed first. A predicted cell counts as found as often as it stands in the row, so a match
    can exceed 1 (its fault, kept here: the name promises the official number). Both results empty give 1.
    Source: bird-bench/mini_dev, evaluation/evaluation_f1.py at 4d970a9.
    """
    if not gold and not predicted:
        return 1.0
    gold, predicted = list(dict.fromkeys(gold)), list(dict.fromkeys(predicted))
    found = only_predicted = only_gold = 0.0
    for gold_row, row in zip(gold, predicted, strict=False):
        n_columns = len(gold_row)
        n_found = sum(value in gold_row for value in row)
        found += n_found / n_columns
        only_predicted += (len(row) - n_found) / n_columns
        only_gold += sum(value not in row for value in gold_row) / n_columns
    only_gold += max(0, len(gold) - len(predicted))
    only_predicted += max(0, len(predicted) - len(gold))
    return _f1(found, only_predicted, only_gold)


def soft_f1_unordered(gold: Sequence[Row], predicted: Sequence[Row], *, n_columns: tuple[int, int]) -> float:
    """2 * common cells / (gold cells + predicted cells), over the pairing of rows that has most in common.

    Rows are bags, and so are the cells of a row: nothing counts twice. `n_columns` of gold and prediction tell two
    empty results apart: 1 where they agree, else 0. Pairing is exact where at most 64 rows a side have no equal
    partner, and a lower bound beyond.
    """
    if not gold and not predicted:
        return float(n_columns[0] == n_columns[1])
    ours = Counter(tuple(sorted(map(cell_key, row), key=repr)) for row in gold)
    theirs = Counter(tuple(sorted(map(cell_key, row), key=repr)) for row in predicted)
    equal = (
        ours & theirs
    )  # pairing equal rows first loses nothing: what two rows share with a third, they share
    common = sum(len(row) * count for row, count in equal.items())
    rest_gold = [Counter(row) for row in (ours - equal).elements()]
    rest_predicted = [Counter(row) for row in (theirs - equal).elements()]
    if max(len(rest_gold), len(rest_predicted)) <= MAX_EXACT_ROWS:
        common += _best_pairing([[(a & b).total() for b in rest_predicted] for a in rest_gold])
    else:
        common += _greedy_pairing(rest_gold, rest_predicted)
    n_cells = sum(map(len, gold)) + sum(map(len, predicted))
    return 2 * common / n_cells


def _f1(common: float, only_predicted: float, only_gold: float) -> float:
    precision = common / (common + only_predicted) if common + only_predicted else 0.0
    recall = common / (common + only_gold) if common + only_gold else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _best_pairing(gains: list[list[int]]) -> int:
    """The largest sum of gains with each row and each column used at most once (Hungarian method, O(n^3))."""
    if not gains or not gains[0]:
        return 0
    size = max(len(gains), len(gains[0]))
    best = max(map(max, gains))
    cost = [
        [best - gains[i][j] if i < len(gains) and j < len(gains[0]) else best for j in range(size)]
        for i in range(size)
    ]
    row_price, column_price = [0] * (size + 1), [0] * (size + 1)
    partner = [0] * (size + 1)  # of column j, counted from 1; 0 is free
    for row in range(1, size + 1):
        partner[0] = row
        column = 0
        slack, before, used = [10**12] * (size + 1), [0] * (size + 1), [False] * (size + 1)
        while partner[column]:
            used[column] = True
            at, delta, following = partner[column], 10**12, 0
            for j in range(1, size + 1):
                if used[j]:
                    continue
                reduced = cost[at - 1][j - 1] - row_price[at] - column_price[j]
                if reduced < slack[j]:
                    slack[j], before[j] = reduced, column
                if slack[j] < delta:
                    delta, following = slack[j], j
            for j in range(size + 1):
                if used[j]:
                    row_price[partner[j]] += delta
                    column_price[j] -= delta
                else:
                    slack[j] -= delta
            column = following
        while column:
            partner[column] = partner[before[column]]
            column = before[column]
    return sum(best - cost[partner[j] - 1][j - 1] for j in range(1, size + 1))


def _greedy_pairing(gold: list[Cells], predicted: list[Cells]) -> int:
    """Each gold row takes the free predicted row with most in common, among those that share its rarest cell."""
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for number, row in enumerate(predicted):
        for value in row:
            holders[value].append(number)
    free = set(range(len(predicted)))
    common = 0
    for row in gold:
        rarest = min((holders[value] for value in row if holders.get(value)), key=len, default=[])
        near = [number for number in rarest[:1000] if number in free]
        if near:
            chosen = max(near, key=lambda number: (row & predicted[number]).total())
            common += (row & predicted[chosen]).total()
            free.discard(chosen)
    return common
