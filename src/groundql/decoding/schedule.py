"""Which rows are decoded when, and in a batch of what shape. No torch.

Rows wait by prefix, the longest prefix first. A group of slots belongs to one prefix and takes its next row as soon as
one of its slots is free; a group without rows takes the next prefix.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One text to be written: a prompt as token ids, and where the caller wants it."""

    prefix: Prefix
    suffix: tuple[int, ...]
    limit: int  # new tokens, the end token among them
    seed: int
    place: int  # in the caller's order


@dataclass(frozen=True)
class Shape:
    """How much a batch holds."""

    n_groups: int
    n_rows: int  # of each group
    n_prefix: int  # tokens of the longest prefix
    n_own: int  # tokens of the longest row: its suffix and what it may write

    @property
    def n_slots(self) -> int:
        """Rows in all."""
        return self.n_groups * self.n_rows

    @property
    def n_places(self) -> int:
        """Places that a step looks at: of each slot those of its prefix and its own."""
        return self.n_slots * (self.n_prefix + self.n_own)

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values are held."""
        return self.n_groups * (self.n_prefix + self.n_rows * self.n_own)


@dataclass(frozen=True)
class Capacity:
    """What the machine takes."""

    n_slots: int  # rows at once
    kv_tokens: int  # tokens whose keys and values are held at once, copies of a prefix counted
    rows_a_group: int = 4
    multiple: int = 1  # of this, prefix and row lengths are: matrices of even sides are faster on a GPU


class Waiting:
    """Rows that no slot has taken yet, by prefix."""

    def __init__(self, rows: Sequence[Row]) -> None:
        first = {row.prefix: row.place for row in reversed(rows)}
        self._queues: dict[Prefix, deque[Row]] = {}
        for row in sorted(rows, key=lambda r: (-len(r.prefix), first[r.prefix], len(r.suffix), r.place)):
            self._queues.setdefault(row.prefix, deque()).append(row)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def counts(self) -> dict[Prefix, int]:
        """Rows that wait, by prefix, the longest prefix first; prefixes without any left out."""
        return {prefix: len(queue) for prefix, queue in self._queues.items() if queue}

    def take(self, prefix: Prefix) -> Row:
        """The next row of `prefix`, which has one."""
        return self._queues[prefix].popleft()

    def rows(self) -> Iterator[Row]:
        """All rows that wait, in the order in which they are likely to be taken."""
        for queue in self._queues.values():
            yield from queue

    def n_own(self) -> int:
        """Places that the longest row needs: its suffix and all that it may write."""
        return max((len(r.suffix) + r.limit for queue in self._queues.values() for r in queue), default=0)


def choose_shape(counts: dict[Prefix, int], n_own: int, capacity: Capacity) -> Shape:
    """A shape for rows of these prefixes (with how many rows each), within `capacity`; at least one row.

    >>> choose_shape({(1, 2, 3): 5, (1,): 2}, 10, Capacity(n_slots=8, kv_tokens=1000))
    Shape(n_groups=2, n_rows=4, n_prefix=3, n_own=10)
    """

    def up(n: int) -> int:
        return -(-max(n, 1) // capacity.multiple) * capacity.multiple

    n_prefix, n_own = up(max(map(len, counts))), up(n_own)
    n_rows = min(capacity.rows_a_group, capacity.n_slots, max(counts.values()))
    while n_rows > 1 and n_prefix + n_rows * n_own > capacity.kv_tokens:
        n_rows -= 1
    wanted = sum(-(-n // n_rows) for n in counts.values())
    n_groups = min(wanted, capacity.n_slots // n_rows, capacity.kv_tokens // (n_prefix + n_rows * n_own))
    return Shape(max(1, n_groups), n_rows, n_prefix, n_own)


def is_much_smaller(shape: Shape, now: Shape, slots_share: float, prefix_share: float) -> bool:
    """Whether `shape` has at most these shares of the slots of `now`, or of its prefixes' length."""
    return shape.n_slots <= slots_share * now.n_slots or shape.n_prefix <= prefix_share * now.n_prefix
