"""Whether sources can still be found for all that a block has named before its FROM clause is complete."""

from groundql.decoding.scope.names import Catalog, Table, bits_of

MAX_MEMO = 50_000  # answers kept for one catalog

Need = tuple[
    str, frozenset[str], bool
]  # (alias, columns that it must have, whether another block may bring it)


def coverable(
    catalog: Catalog, taken: tuple[Table, ...], needs: frozenset[Need], bare: frozenset[str], slots: int
) -> bool:
    """Whether at most `slots` more sources bring every alias of `needs` and each bare name exactly once.

    `taken` are the sources that stand already. Exact; without bare names it costs one look at each alias, with them a
    search whose answers are kept with the catalog.
    """
    if not bare:
        return _each_alias_alone(catalog, needs, slots)
    if not needs and not taken and slots and _one_table_has_all(catalog, bare):
        return True
    key = (tuple(sorted(table.key for table in taken)), needs, bare, slots)
    known = catalog.memo.get(key)
    if known is None:
        if len(catalog.memo) >= MAX_MEMO:
            catalog.memo.clear()
        known = catalog.memo[key] = _Search(catalog, taken, needs, bare).run(slots)
    return known


def _each_alias_alone(catalog: Catalog, needs: frozenset[Need], slots: int) -> bool:
    n_needed = 0
    for alias, need, optional in needs:
        if not optional:
            n_needed += 1
            if n_needed > slots or not catalog.candidates(alias, need):
                return False
    return True


def _one_table_has_all(catalog: Catalog, bare: frozenset[str]) -> bool:
    bits = catalog.everything
    for key in bare:
        bits &= catalog.holders.get(key, 0)
    return bits != 0


class _Search:
    """Depth-first over which of the bare names each source brings; a table counts only by that signature."""

    def __init__(
        self, catalog: Catalog, taken: tuple[Table, ...], needs: frozenset[Need], bare: frozenset[str]
    ) -> None:
        signatures = catalog.signatures(bare)
        distinct = set(signatures)
        self.full = (1 << len(bare)) - 1
        self.free = sorted(distinct - {0}, reverse=True)
        self.covered = 0
        self.clash = False
        for table in taken:
            signature = signatures[catalog.by_key[table.key]]
            self.clash = self.clash or bool(signature & self.covered)
            self.covered |= signature
        groups = []
        for alias, need, optional in needs:
            bits = catalog.candidates(alias, need)
            found = distinct if bits == catalog.everything else {signatures[at] for at in bits_of(bits)}
            groups.append((len(found), sorted(found), optional))
        self.groups = sorted(groups)
        self.failed: set[tuple[int, int, int]] = set()

    def run(self, slots: int) -> bool:
        return not self.clash and self._place(0, self.covered, slots)

    def _place(self, group: int, covered: int, slots: int) -> bool:
        if group == len(self.groups):
            return self._fill(covered, slots)
        key = (group, covered, slots)
        if key in self.failed:
            return False
        _, signatures, optional = self.groups[group]
        if slots:
            for signature in signatures:
                if not signature & covered and self._place(group + 1, covered | signature, slots - 1):
                    return True
        if optional and self._place(group + 1, covered, slots):
            return True
        self.failed.add(key)
        return False

    def _fill(self, covered: int, slots: int) -> bool:
        if covered == self.full:
            return True
        key = (-1, covered, slots)
        if not slots or key in self.failed:
            return False
        lowest = ~covered & (covered + 1)
        for signature in self.free:
            if signature & lowest and not signature & covered and self._fill(covered | signature, slots - 1):
                return True
        self.failed.add(key)
        return False
