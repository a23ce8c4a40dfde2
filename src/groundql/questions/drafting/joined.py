"""Templates on two tables of which one points to the other."""

from collections.abc import Iterator
from random import Random

from groundql.questions.drafting.facts import ColumnFacts
from groundql.questions.drafting.shape import Draft, Link, drafted, q, some_values, text_literal, thresholds
from groundql.questions.drafting.single import SUMMED_NOT
from groundql.records import Difficulty


def joined_drafts(link: Link, random: Random) -> Iterator[Draft]:
    """Drafts along `link`; they name the rows of the parent, so it needs a label."""
    label = link.parent.label
    if label is None:
        return
    child, parent = link.child, link.parent
    many, one, ones = child.many, parent.one, parent.many
    if many == ones:  # two tables that are called alike
        return
    theirs, name = q(link.theirs), f"T1.{q(label.name)}"
    joined = f"FROM {q(parent.name)} AS T1 JOIN {q(child.name)} AS T2 ON T2.{q(link.own)} = T1.{theirs}"
    by = f"GROUP BY T1.{theirs}, {name}"

    def draft(template: str, sql: str, *texts: str, difficulty: Difficulty = "moderate") -> Draft:
        return drafted(template, [child, parent], sql, texts, difficulty)

    yield draft("parent_count", f"SELECT {name}, COUNT(*) {joined} {by}", f"How many {many} does each {one} have?", f"Count the {many} of every {one} with the {one}'s {label.said}.", f"Give each {one} and its number of {many}.")  # fmt: skip
    yield draft("parent_most", f"SELECT {name} {joined} {by} ORDER BY COUNT(*) DESC LIMIT 1", f"Which {one} has the most {many}?", f"Name the {one} with the largest number of {many}.")  # fmt: skip
    n = random.choice((2, 3))
    yield draft("parent_top_n", f"SELECT {name}, COUNT(*) {joined} {by} ORDER BY COUNT(*) DESC LIMIT {n}", f"Which {n} {ones} have the most {many}, and how many?", f"Show the top {n} {ones} by number of {many} with that number.")  # fmt: skip
    least = max(1, child.n_rows // max(1, parent.n_rows))
    yield draft("parent_having", f"SELECT {name} {joined} {by} HAVING COUNT(*) > {least}", f"Which {ones} have more than {least} {many}?", f"List the {label.said} of each {one} with over {least} {many}.")  # fmt: skip
    inside = f"SELECT {q(link.own)} FROM {q(child.name)} WHERE {q(link.own)} IS NOT NULL"
    yield draft("parent_without", f"SELECT {q(label.name)} FROM {q(parent.name)} WHERE {theirs} NOT IN ({inside})", f"Which {ones} have no {many}?", f"List the {label.said} of the {ones} without any {many}.")  # fmt: skip
    yield draft("count_without", f"SELECT COUNT(*) FROM {q(parent.name)} WHERE {theirs} NOT IN ({inside})", f"How many {ones} have no {many}?", f"Count the {ones} without any {many}.")  # fmt: skip
    for value in some_values(label, random):
        where = f"{joined} WHERE {name} = {text_literal(value)}"
        yield draft("count_of", f"SELECT COUNT(*) {where}", f"How many {many} does the {one} {value} have?", f"Count the {many} of {value}.", difficulty="simple")  # fmt: skip
        if child.label and child.label.said:
            yield draft("list_of", f"SELECT T2.{q(child.label.name)} {where}", f"Which {many} belong to the {one} {value}?", f"List the {child.label.said} of the {many} of {value}.", difficulty="simple")  # fmt: skip
    if child.label:
        yield draft("with_parent", f"SELECT T2.{q(child.label.name)}, {name} {joined}", f"List each {child.one} with the {label.said} of its {one}.", f"Show every {child.one}'s {child.label.said} and its {one}'s {label.said}.")  # fmt: skip
    for number in child.of("number")[:3]:
        yield from _sums(link, label, number, joined, random)
    for category in child.of("category")[:3]:
        yield from _of_kind(link, label, category, joined, random)
    for category in parent.of("category")[:3]:
        yield from _of_parents_kind(link, category, joined, random)
    for date in child.of("date")[:2]:
        years = sorted({value[:4] for value in date.values})
        for year in random.sample(years, min(2, len(years))):
            yield draft("parent_count_in_year", f"SELECT {name}, COUNT(*) {joined} WHERE STRFTIME('%Y', T2.{q(date.name)}) = '{year}' {by}", f"How many {many} with a {date.said} in {year} does each {one} have?", f"Count the {many} of each {one} whose {date.said} falls in {year}.", difficulty="challenging")  # fmt: skip


def _sums(
    link: Link, label: ColumnFacts, number: ColumnFacts, joined: str, random: Random
) -> Iterator[Draft]:
    child, parent = link.child, link.parent
    many, one, said = child.many, parent.one, number.said
    name, value = f"T1.{q(label.name)}", f"T2.{q(number.name)}"
    by = f"GROUP BY T1.{q(link.theirs)}, {name}"
    both = [child, parent]
    yield drafted("parent_avg", both, f"SELECT {name}, AVG({value}) {joined} {by}", [f"What is the average {said} of the {many} of each {one}?", f"Give the mean {said} of {many} per {one}."], "moderate")  # fmt: skip
    if not said.endswith(SUMMED_NOT):
        yield drafted("parent_sum", both, f"SELECT {name}, SUM({value}) {joined} {by}", [f"What is the total {said} of the {many} of each {one}?", f"Add up the {said} of {many} per {one}."], "moderate")  # fmt: skip
        yield drafted("parent_sum_most", both, f"SELECT {name} {joined} {by} ORDER BY SUM({value}) DESC LIMIT 1", [f"Which {one} has the highest total {said} of {many}?", f"Name the {one} whose {many} have the most {said} in all."], "challenging")  # fmt: skip
    for limit in thresholds(number, random, 1):
        yield drafted("parent_above", both, f"SELECT DISTINCT {name} {joined} WHERE {value} > {limit}", [f"Which {parent.many} have {many} with a {said} above {limit}?", f"List each {one} that has at least one of the {many} with more than {limit} {said}."], "moderate")  # fmt: skip
    for chosen in some_values(label, random, 2):
        yield drafted("avg_of", both, f"SELECT AVG({value}) {joined} WHERE {name} = {text_literal(chosen)}", [f"What is the average {said} of the {many} of {chosen}?", f"Mean {said} of {many} for the {one} {chosen}?"], "moderate")  # fmt: skip


def _of_kind(
    link: Link, label: ColumnFacts, category: ColumnFacts, joined: str, random: Random
) -> Iterator[Draft]:
    child, parent = link.child, link.parent
    many, one, ones, said = child.many, parent.one, parent.many, category.said
    name, kind = f"T1.{q(label.name)}", f"T2.{q(category.name)}"
    both = [child, parent]
    values = some_values(category, random)
    for value in values[:2]:
        yield drafted("parent_with", both, f"SELECT DISTINCT {name} {joined} WHERE {kind} = {text_literal(value)}", [f"Which {ones} have {many} with the {said} {value}?", f"List each {one} that has any {child.one} whose {said} is {value}."], "moderate")  # fmt: skip
        yield drafted("parent_with_most", both, f"SELECT {name} {joined} WHERE {kind} = {text_literal(value)} GROUP BY T1.{q(link.theirs)}, {name} ORDER BY COUNT(*) DESC LIMIT 1", [f"Which {one} has the most {many} with {said} {value}?", f"Name the {one} with the largest number of {many} whose {said} is {value}."], "challenging")  # fmt: skip
    if len(values) > 1:
        part = f"SELECT {name} {joined} WHERE {kind} ="
        first, second = values[:2]
        yield drafted("parent_one_without", both, f"{part} {text_literal(first)} EXCEPT {part} {text_literal(second)}", [f"Which {ones} have {many} with {said} {first} but none with {said} {second}?", f"List the {label.said} of {ones} that have {said} {first} and not {second} among their {many}."], "challenging")  # fmt: skip
        yield drafted("parent_both", both, f"{part} {text_literal(first)} INTERSECT {part} {text_literal(second)}", [f"Which {ones} have both {many} with {said} {first} and {many} with {said} {second}?", f"List the {label.said} of {ones} whose {many} include {said} {first} as well as {second}."], "challenging")  # fmt: skip


def _of_parents_kind(link: Link, category: ColumnFacts, joined: str, random: Random) -> Iterator[Draft]:
    child, parent = link.child, link.parent
    many, ones, said = child.many, parent.many, category.said
    kind = f"T1.{q(category.name)}"
    both = [child, parent]
    yield drafted("count_by_kind", both, f"SELECT {kind}, COUNT(*) {joined} GROUP BY {kind}", [f"How many {many} are there for each {said} of their {parent.one}?", f"Count the {many} by the {said} of the {parent.one}."], "moderate")  # fmt: skip
    for value in some_values(category, random, 2):
        yield drafted("count_of_kind", both, f"SELECT COUNT(*) {joined} WHERE {kind} = {text_literal(value)}", [f"How many {many} belong to {ones} with the {said} {value}?", f"Count the {many} of {ones} whose {said} is {value}."], "moderate")  # fmt: skip
