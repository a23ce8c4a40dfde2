"""Templates on three tables: two steps of a chain, or two tables that a third one joins."""

from collections.abc import Iterator
from random import Random

from groundql.questions.drafting.shape import Draft, Link, drafted, q, some_values, text_literal


def across_drafts(near: Link, far: Link, random: Random) -> Iterator[Draft]:
    """Drafts from the label of one end to the other's. `far` goes on from `near.parent`, or starts in the same child."""
    is_chain = near.parent is far.child
    start, end = (near.child, far.parent) if is_chain else (near.parent, far.parent)
    if end.label is None or len({start.many, end.many, near.child.many, near.parent.many}) < 3:
        return
    tables = [near.child, near.parent, far.parent]
    name = f"T3.{q(end.label.name)}"
    if is_chain:
        joined = (
            f"FROM {q(near.child.name)} AS T1 JOIN {q(near.parent.name)} AS T2 ON T1.{q(near.own)} = T2.{q(near.theirs)} "
            f"JOIN {q(far.parent.name)} AS T3 ON T2.{q(far.own)} = T3.{q(far.theirs)}"
        )
    else:
        joined = (
            f"FROM {q(near.parent.name)} AS T1 JOIN {q(near.child.name)} AS T2 ON T2.{q(near.own)} = T1.{q(near.theirs)} "
            f"JOIN {q(far.parent.name)} AS T3 ON T2.{q(far.own)} = T3.{q(far.theirs)}"
        )
    many, one, ones = start.many, end.one, end.many
    counted = "COUNT(*)" if is_chain else f"COUNT(DISTINCT T1.{q(near.theirs)})"
    by = f"GROUP BY T3.{q(far.theirs)}, {name}"
    how = "" if is_chain else f" through {near.child.many}"
    yield drafted("far_count", tables, f"SELECT {name}, {counted} {joined} {by}", [f"How many {many} does each {one} have{how}?", f"Count the {many} per {one}{how}."], "challenging")  # fmt: skip
    yield drafted("far_most", tables, f"SELECT {name} {joined} {by} ORDER BY {counted} DESC LIMIT 1", [f"Which {one} has the most {many}{how}?", f"Name the {one} with the largest number of {many}{how}."], "challenging")  # fmt: skip
    for value in some_values(end.label, random):
        where = f"{joined} WHERE {name} = {text_literal(value)}"
        yield drafted("far_count_of", tables, f"SELECT {counted} {where}", [f"How many {many} does the {one} {value} have{how}?", f"Count the {many} of the {one} {value}{how}."], "moderate")  # fmt: skip
        if start.label:
            yield drafted("far_list_of", tables, f"SELECT DISTINCT T1.{q(start.label.name)} {where}", [f"Which {many} belong to the {one} {value}{how}?", f"List the {start.label.said} of the {many} of the {one} {value}{how}."], "moderate")  # fmt: skip
    for number in start.of("number")[:2] if is_chain else ():
        yield drafted("far_avg", tables, f"SELECT {name}, AVG(T1.{q(number.name)}) {joined} {by}", [f"What is the average {number.said} of the {many} of each {one}?", f"Give the mean {number.said} of {many} for each of the {ones}."], "challenging")  # fmt: skip
