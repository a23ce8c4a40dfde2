"""Spider's exact set match and hardness: clauses compared as sets of parts, without values.

The definition is that of Spider's evaluation.py, over the parts of `spider_parts`. Queries beyond Spider's subset
(windows, CASE, CTE) match nothing, and what its own parser cannot read (`spider_subset`) only where that is asked for.
"""

from collections import Counter

from groundql.records import Difficulty, Schema
from groundql.verdicts.spider_parts import Names, Part, Parts, read_parts
from groundql.verdicts.spider_subset import spider_reads


def exact_match(
    gold_sql: str, predicted_sql: str, schema: Schema, *, any_syntax: bool = False
) -> bool | None:
    """Whether all clauses agree; None where the gold itself is beyond Spider's subset.

    A prediction that Spider's parser cannot read does not match, unless `any_syntax`.
    """
    names = Names(schema)
    gold = read_parts(gold_sql, names)
    if gold is None:
        return None
    if not any_syntax and not spider_reads(predicted_sql):
        return False
    predicted = read_parts(predicted_sql, names)
    return predicted is not None and _agree(gold, predicted)


def hardness(sql: str, schema: Schema) -> Difficulty:
    """Spider's class of a query: easy, medium, hard or extra; "" where it is beyond its subset."""
    parts = read_parts(sql, Names(schema))
    if parts is None:
        return ""
    clauses, nested, others = _n_clauses(parts), _n_nested(parts), _n_others(parts)
    if clauses <= 1 and others == 0 and nested == 0:
        return "easy"
    if nested == 0 and ((others <= 2 and clauses <= 1) or (clauses <= 2 and others < 2)):
        return "medium"
    is_hard = (
        (others > 2 and clauses <= 2 and nested == 0)
        or (2 < clauses <= 3 and others <= 2 and nested == 0)
        or (clauses <= 1 and others == 0 and nested <= 1)
    )
    return "hard" if is_hard else "extra"


def _agree(gold: Parts, predicted: Parts) -> bool:
    if any(
        (gold.combined.keys() ^ predicted.combined.keys(), gold.limited != predicted.limited and gold.order)
    ):
        return False
    if not all(_agree(parts, predicted.combined[name]) for name, parts in gold.combined.items()):
        return False

    def columns(parts: Parts) -> list[str]:
        return [name.split(".")[-1] for name in parts.group]

    pairs = (
        (Counter(gold.select), Counter(predicted.select)),
        (Counter(c.part() for c in gold.where), Counter(c.part() for c in predicted.where)),
        (Counter(columns(gold)), Counter(columns(predicted))),
        (gold.group, predicted.group),
        *([(_having(gold), _having(predicted))] if gold.group else []),
        ((gold.order, gold.direction), (predicted.order, predicted.direction)),
        (set(gold.connectors), set(predicted.connectors)),
        (_keywords(gold), _keywords(predicted)),
        (Counter(gold.tables), Counter(predicted.tables)),
    )
    return all(ours == theirs for ours, theirs in pairs)


def _having(parts: Parts) -> tuple[list[Part], list[str]]:
    return [c.part() for c in parts.having], parts.having_connectors


def _keywords(parts: Parts) -> set[str]:
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    named = {
        "where": parts.where,
        "group": parts.group,
        "having": parts.having,
        "order": parts.order,
        parts.direction: parts.order,
        "limit": parts.limited,
        "or": "or" in (*parts.join_connectors, *parts.connectors, *parts.having_connectors),
        "not": any(c.negated for c in conditions),
        "in": any(c.operator == "in" for c in conditions),
        "like": any(c.operator == "like" for c in conditions),
    }
    return {word for word, is_there in named.items() if is_there} | set(parts.combined)


def _n_clauses(parts: Parts) -> int:
    """Clauses, joins, ORs and LIKEs."""
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    words = (*parts.join_connectors, *parts.connectors, *parts.having_connectors)
    n = sum(map(bool, (parts.where, parts.group, parts.order, parts.limited)))
    n += max(0, len(parts.tables) - 1)
    return n + words.count("or") + sum(c.operator == "like" for c in conditions)


def _n_nested(parts: Parts) -> int:
    conditions = (*parts.join_conditions, *parts.where, *parts.having)
    return sum(len(c.nested) for c in conditions) + len(parts.combined)


def _n_others(parts: Parts) -> int:
    """How many of these there are more than one of: aggregates, outputs, conditions, groups.

    A NOT counts as an aggregate in conditions: the official count looks at the first place of each part.
    """
    n_aggregates = sum(bool(aggregate) for aggregate, _ in parts.select)
    n_aggregates += sum(c.negated for c in (*parts.where, *parts.having))
    n_aggregates += sum(isinstance(unit, tuple) and len(unit) == 2 for unit in parts.order)
    return sum(n > 1 for n in (n_aggregates, len(parts.select), len(parts.where), len(parts.group)))
