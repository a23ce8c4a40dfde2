"""Gold queries that cut a tie: ORDER BY ... LIMIT n where row n and row n + 1 sort alike, so either may be the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from groundql.records import Row
from groundql.verdicts.parsing import parse_query

N_BEYOND = 20  # rows looked at beyond the cut
FAULT = "gold cuts a tie at its LIMIT"


@dataclass(frozen=True)
class Probe:
    """One SELECT of a gold query with its sort keys as further columns and some rows beyond its limit."""

    sql: str
    n_kept: int
    n_keys: int
    is_whole: bool  # the gold itself, not a query inside it

    def cuts_tie(self, rows: Sequence[Row]) -> bool:
        """Whether the last row kept and the first one left out sort alike, and the rows that do differ."""
        if not 0 < self.n_kept < len(rows):
            return False
        cut = rows[self.n_kept - 1][-self.n_keys :]
        if rows[self.n_kept][-self.n_keys :] != cut:
            return False
        return len({row[: -self.n_keys] for row in rows if row[-self.n_keys :] == cut}) > 1


def tie_probes(gold_sql: str) -> list[Probe]:
    """What to run to see whether a gold query cuts a tie, inside it too; a query that cannot be asked gives none.

    A SELECT that depends on the query around it does not run by itself: then nothing is known.
    """
    lowered = gold_sql.lower()
    tree = parse_query(gold_sql) if "limit" in lowered and "order" in lowered else None
    if tree is None:
        return []
    probes = [_probe(select, is_whole=select is tree) for select in tree.find_all(exp.Select)]
    return [probe for probe in probes if probe]


def _probe(select: exp.Select, *, is_whole: bool) -> Probe | None:
    order, limit = select.args.get("order"), select.args.get("limit")
    n_kept = limit.expression if isinstance(limit, exp.Limit) else None
    if order is None or not isinstance(n_kept, exp.Literal) or not n_kept.name.isdecimal():
        return None
    keys = [_key(ordered.this, select) for ordered in order.expressions]
    outputs = [output.unalias().sql() for output in select.expressions]
    if None in keys or (select.args.get("distinct") and any(k and k.sql() not in outputs for k in keys)):
        return None  # a further column would change what is distinct
    probe = select.copy()
    probe.set("expressions", [*probe.expressions, *(key.copy() for key in keys if key)])
    probe.set("limit", exp.Limit(expression=exp.Literal.number(int(n_kept.name) + N_BEYOND)))
    return Probe(probe.sql(dialect="sqlite"), int(n_kept.name), len(keys), is_whole)


def _key(expression: exp.Expr, select: exp.Select) -> exp.Expr | None:
    """What a term of ORDER BY stands for: a place or an alias means an output; None where that cannot be said."""
    outputs = select.expressions
    if isinstance(expression, exp.Literal):
        place = int(expression.name) if expression.name.isdecimal() else 0
        is_plain = not any(output.is_star for output in outputs)
        return outputs[place - 1].unalias() if is_plain and 0 < place <= len(outputs) else None
    if isinstance(expression, exp.Column) and not expression.table:
        name = expression.name.lower()
        named = (o.this for o in outputs if isinstance(o, exp.Alias) and o.alias.lower() == name)
        return next(named, expression)
    return expression
