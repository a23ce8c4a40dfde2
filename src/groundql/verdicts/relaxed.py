"""Whether a result holds the gold's columns, in any order and with others beside: reported apart from `ex_strict`."""

from collections.abc import Callable, Hashable, Sequence

from groundql.records import Cell, Outcome, Row
from groundql.verdicts.rows import cell_key, same_results

MAX_STEPS = 5_000_000  # row visits of the search; beyond this the answer is no

Ids = list[int]


def holds_gold(gold: Outcome, predicted: Outcome, *, ordered: bool) -> bool:
    """Some choice of predicted columns, one for each gold column, has the gold's rows: as lists where `ordered`.

    Columns are never compared alone: [(1, 'b'), (2, 'a')] does not hold [(1, 'a'), (2, 'b')].
    """
    if same_results(gold, predicted, ordered=ordered):
        return True
    both_ran = gold.status == "ok" and predicted.status == "ok"
    if not both_ran or len(gold.columns) > len(predicted.columns) or len(gold.rows) != len(predicted.rows):
        return False
    return not gold.rows or columns_match(gold.rows, predicted.rows, ordered=ordered, key=cell_key)


def columns_match(
    gold: Sequence[Row], predicted: Sequence[Row], *, ordered: bool, key: Callable[[Cell], Hashable]
) -> bool:
    """Whether predicted columns can be chosen, one for each gold column, that have the gold's rows.

    Both have rows, equally many; `key` says which values are equal.
    """
    return _Search(gold, predicted, ordered=ordered, key=key).succeeds()


class _Search:
    """Backtracking over which predicted column stands for each gold column.

    Rows that agree in the columns chosen so far have one id, on both sides; a choice survives while both sides
    have each id equally often (or in the same order).
    """

    def __init__(
        self,
        gold: Sequence[Row],
        predicted: Sequence[Row],
        *,
        ordered: bool,
        key: Callable[[Cell], Hashable],
    ) -> None:
        self.ordered = ordered
        self.key = key
        self.values: dict[Hashable, int] = {}
        self.gold = self._columns(gold)
        self.predicted = self._columns(predicted)
        self.steps = 0

    def _columns(self, rows: Sequence[Row]) -> list[Ids]:
        keyed = [[self.values.setdefault(self.key(value), len(self.values)) for value in row] for row in rows]
        return [list(column) for column in zip(*keyed, strict=True)]

    def succeeds(self) -> bool:
        start = [0] * len(self.gold[0])
        self.choices = [
            [j for j, theirs in enumerate(self.predicted) if self._agree(ours, theirs)] for ours in self.gold
        ]
        if not all(self.choices):
            return False
        self.order = sorted(range(len(self.gold)), key=lambda i: len(self.choices[i]))
        return self._extend(0, start, start, frozenset())

    def _extend(self, depth: int, ours: Ids, theirs: Ids, taken: frozenset[int]) -> bool:
        if depth == len(self.order):
            return True
        column = self.order[depth]
        tried: list[Ids] = []
        for choice in self.choices[column]:
            candidate = self.predicted[choice]
            if choice in taken or any(candidate == other for other in tried) or self.steps > MAX_STEPS:
                continue
            tried.append(candidate)
            ids: dict[tuple[int, int], int] = {}
            new_ours = [ids.setdefault(pair, len(ids)) for pair in zip(ours, self.gold[column], strict=True)]
            new_theirs = [ids.setdefault(pair, len(ids)) for pair in zip(theirs, candidate, strict=True)]
            self.steps += len(ours)
            if self._agree(new_ours, new_theirs) and self._extend(
                depth + 1, new_ours, new_theirs, taken | {choice}
            ):
                return True
        return False

    def _agree(self, ours: Ids, theirs: Ids) -> bool:
        return ours == theirs if self.ordered else sorted(ours) == sorted(theirs)
