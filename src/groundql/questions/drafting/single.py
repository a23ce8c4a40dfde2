"""Templates on one table: lists, counts, conditions, aggregates, groups, orders, dates, negation and sets."""

from collections.abc import Iterator
from random import Random

from groundql.questions.drafting.facts import ColumnFacts, TableFacts
from groundql.questions.drafting.shape import Draft, drafted, q, some_values, text_literal, thresholds

SUMMED_NOT = ("year", "age", "month", "day", "rank", "rating", "latitude", "longitude", "number")


def single_drafts(table: TableFacts, random: Random) -> Iterator[Draft]:
    """Drafts on `table` alone."""
    name, one, many = q(table.name), table.one, table.many

    def draft(template: str, sql: str, *texts: str, hard: bool = False) -> Draft:
        return drafted(template, [table], sql, texts, "moderate" if hard else "simple")

    yield draft("count", f"SELECT COUNT(*) FROM {name}", f"How many {many} are there?", f"Count all {many}.", f"What is the number of {many}?")  # fmt: skip
    label = table.label
    if label:
        shown = _shown(label, one)
        yield draft("list", f"SELECT {q(label.name)} FROM {name}", f"List the {shown} of every {one}.", f"Show all {many} by {label.said}.", f"What are the {label.said}s of the {many}?")  # fmt: skip
    for category in table.of("category", "truth"):
        yield from _grouped(table, category, random)
    for category in table.of("category"):
        yield from _by_value(table, category, random)
    for number in table.of("number"):
        yield from _measured(table, number, random)
    for date in table.of("date"):
        yield from _dated(table, date, random)
    for truth in table.of("truth"):
        yield draft("count_true", f"SELECT COUNT(*) FROM {name} WHERE {q(truth.name)} = 1", f"How many {many} are {_adjective(truth)}?", f"Count the {many} for which {truth.said} is true.")  # fmt: skip
        yield draft("count_false", f"SELECT COUNT(*) FROM {name} WHERE {q(truth.name)} = 0", f"How many {many} are not {_adjective(truth)}?", f"Count the {many} for which {truth.said} is false.")  # fmt: skip
    for column in table.columns:
        if 0 < column.n_null < table.n_rows and column.role != "key":
            where = f"FROM {name} WHERE {q(column.name)} IS NULL"
            yield draft("count_null", f"SELECT COUNT(*) {where}", f"How many {many} have no {column.said}?", f"For how many {many} is the {column.said} missing?")  # fmt: skip
            if label and label is not column:
                yield draft("list_null", f"SELECT {q(label.name)} {where}", f"Which {many} have no {column.said}?", f"List the {label.said} of the {many} without a {column.said}.")  # fmt: skip


def _shown(label: ColumnFacts, one: str) -> str:
    return label.said if label.said != one else "name"


def _adjective(truth: ColumnFacts) -> str:
    return truth.said.removeprefix("is ").removeprefix("has ")


def _grouped(table: TableFacts, category: ColumnFacts, random: Random) -> Iterator[Draft]:
    name, many, by = q(table.name), table.many, q(category.name)
    said = category.said

    def draft(template: str, sql: str, *texts: str, hard: bool = False) -> Draft:
        return drafted(template, [table], sql, texts, "moderate" if hard else "simple")

    yield draft("group_count", f"SELECT {by}, COUNT(*) FROM {name} GROUP BY {by}", f"How many {many} are there for each {said}?", f"Count the {many} per {said}.", f"Give the number of {many} by {said}.")  # fmt: skip
    if category.role != "category":
        return
    yield draft("distinct", f"SELECT DISTINCT {by} FROM {name}", f"What are the different {said} values of the {many}?", f"List every distinct {said} of the {many}.", f"Which {said} values occur among the {many}?")  # fmt: skip
    yield draft("count_distinct", f"SELECT COUNT(DISTINCT {by}) FROM {name}", f"How many different {said} values do the {many} have?", f"Count the distinct {said} values among the {many}.")  # fmt: skip
    yield draft("most_common", f"SELECT {by} FROM {name} GROUP BY {by} ORDER BY COUNT(*) DESC LIMIT 1", f"Which {said} has the most {many}?", f"What is the most common {said} among the {many}?", hard=True)  # fmt: skip
    least = max(1, table.n_rows // max(1, len(category.values)) // 2)
    yield draft("having_count", f"SELECT {by} FROM {name} GROUP BY {by} HAVING COUNT(*) > {least}", f"Which {said} values have more than {least} {many}?", f"List each {said} with over {least} {many}.", hard=True)  # fmt: skip
    for number in table.of("number")[:2]:
        yield draft("group_avg", f"SELECT {by}, AVG({q(number.name)}) FROM {name} GROUP BY {by}", f"What is the average {number.said} of the {many} for each {said}?", f"Give the mean {number.said} per {said}.", hard=True)  # fmt: skip
        yield draft("group_max", f"SELECT {by}, MAX({q(number.name)}) FROM {name} GROUP BY {by}", f"What is the highest {number.said} of the {many} for each {said}?", f"Give the maximum {number.said} per {said}.", hard=True)  # fmt: skip
        for limit in thresholds(number, random, 1):
            yield draft("having_avg", f"SELECT {by} FROM {name} GROUP BY {by} HAVING AVG({q(number.name)}) > {limit}", f"For which {said} values is the average {number.said} above {limit}?", f"Which {said} values have a mean {number.said} of more than {limit}?", hard=True)  # fmt: skip


def _by_value(table: TableFacts, category: ColumnFacts, random: Random) -> Iterator[Draft]:
    name, many, by, said = q(table.name), table.many, q(category.name), category.said
    label = table.label
    values = some_values(category, random)

    def draft(template: str, sql: str, *texts: str, hard: bool = False) -> Draft:
        return drafted(template, [table], sql, texts, "moderate" if hard else "simple")

    for value in values:
        literal = text_literal(value)
        yield draft("count_where", f"SELECT COUNT(*) FROM {name} WHERE {by} = {literal}", f"How many {many} have the {said} {value}?", f"Count the {many} whose {said} is {value}.", f"What is the number of {many} with {said} {value}?")  # fmt: skip
        for number in table.of("number")[:2]:
            yield draft("avg_where", f"SELECT AVG({q(number.name)}) FROM {name} WHERE {by} = {literal}", f"What is the average {number.said} of the {many} whose {said} is {value}?", f"Mean {number.said} of {many} with {said} {value}?")  # fmt: skip
        if not label or label is category:
            continue
        shown = q(label.name)
        yield draft("list_where", f"SELECT {shown} FROM {name} WHERE {by} = {literal}", f"Which {many} have the {said} {value}?", f"List the {label.said} of the {many} whose {said} is {value}.", f"Show the {many} with {said} {value}.")  # fmt: skip
        for number in table.of("number")[:2]:
            yield draft("top_where", f"SELECT {shown} FROM {name} WHERE {by} = {literal} ORDER BY {q(number.name)} DESC LIMIT 1", f"Which of the {many} with {said} {value} has the highest {number.said}?", f"Among the {many} whose {said} is {value}, name the one with the most {number.said}.", hard=True)  # fmt: skip
    if label and label is not category and values:
        literal = text_literal(values[0])
        yield draft("list_not", f"SELECT {q(label.name)} FROM {name} WHERE {by} != {literal}", f"Which {many} do not have the {said} {values[0]}?", f"List the {label.said} of all {many} whose {said} is anything but {values[0]}.")  # fmt: skip
    if len(values) > 1:
        first, second = values[:2]
        both = f"{text_literal(first)}, {text_literal(second)}"
        yield draft("count_either", f"SELECT COUNT(*) FROM {name} WHERE {by} IN ({both})", f"How many {many} have the {said} {first} or {second}?", f"Count the {many} whose {said} is either {first} or {second}.")  # fmt: skip
        for other in [c for c in table.of("category") if c is not category][:2]:
            part = f"SELECT {q(other.name)} FROM {name} WHERE {by} ="
            yield draft("both", f"{part} {text_literal(first)} INTERSECT {part} {text_literal(second)}", f"Which {other.said} values have {many} with {said} {first} as well as {many} with {said} {second}?", f"Find each {other.said} that has both {said} {first} and {said} {second}.", hard=True)  # fmt: skip
            yield draft("one_without", f"{part} {text_literal(first)} EXCEPT {part} {text_literal(second)}", f"Which {other.said} values have {many} with {said} {first} but none with {said} {second}?", f"Find each {other.said} that has {said} {first} and not {said} {second}.", hard=True)  # fmt: skip


def _measured(table: TableFacts, number: ColumnFacts, random: Random) -> Iterator[Draft]:
    name, one, many, by, said = q(table.name), table.one, table.many, q(number.name), number.said
    label = table.label

    def draft(template: str, sql: str, *texts: str, hard: bool = False) -> Draft:
        return drafted(template, [table], sql, texts, "moderate" if hard else "simple")

    yield draft("avg", f"SELECT AVG({by}) FROM {name}", f"What is the average {said} of the {many}?", f"Mean {said} over all {many}?")  # fmt: skip
    yield draft("max", f"SELECT MAX({by}) FROM {name}", f"What is the highest {said} of any {one}?", f"Give the maximum {said} among the {many}.")  # fmt: skip
    yield draft("min", f"SELECT MIN({by}) FROM {name}", f"What is the lowest {said} of any {one}?", f"Give the minimum {said} among the {many}.")  # fmt: skip
    if not said.endswith(SUMMED_NOT):
        yield draft("sum", f"SELECT SUM({by}) FROM {name}", f"What is the total {said} of all {many}?", f"Add up the {said} of the {many}.")  # fmt: skip
    for limit in thresholds(number, random):
        yield draft("count_above", f"SELECT COUNT(*) FROM {name} WHERE {by} > {limit}", f"How many {many} have a {said} above {limit}?", f"Count the {many} with more than {limit} {said}.")  # fmt: skip
        if label:
            yield draft("list_above", f"SELECT {q(label.name)} FROM {name} WHERE {by} > {limit}", f"Which {many} have a {said} greater than {limit}?", f"List the {label.said} of {many} whose {said} exceeds {limit}.")  # fmt: skip
            yield draft("list_below", f"SELECT {q(label.name)} FROM {name} WHERE {by} < {limit}", f"Which {many} have a {said} below {limit}?", f"List the {label.said} of {many} whose {said} is less than {limit}.")  # fmt: skip
    if label:
        shown = q(label.name)
        yield draft("top", f"SELECT {shown} FROM {name} ORDER BY {by} DESC LIMIT 1", f"Which {one} has the highest {said}?", f"Name the {one} with the largest {said}.")  # fmt: skip
        yield draft("bottom", f"SELECT {shown} FROM {name} ORDER BY {by} LIMIT 1", f"Which {one} has the lowest {said}?", f"Name the {one} with the smallest {said}.")  # fmt: skip
        n = random.choice((3, 5))
        yield draft("top_n", f"SELECT {shown}, {by} FROM {name} ORDER BY {by} DESC LIMIT {n}", f"What are the {n} {many} with the highest {said}, and their {said}?", f"Show the top {n} {many} by {said} with the {said}.")  # fmt: skip
        yield draft("above_average", f"SELECT {shown} FROM {name} WHERE {by} > (SELECT AVG({by}) FROM {name})", f"Which {many} have a {said} above the average?", f"List the {label.said} of the {many} whose {said} is higher than the mean.", hard=True)  # fmt: skip
    limits = sorted(thresholds(number, random, 2), key=float)
    if len(limits) == 2:
        yield draft("between", f"SELECT COUNT(*) FROM {name} WHERE {by} BETWEEN {limits[0]} AND {limits[1]}", f"How many {many} have a {said} between {limits[0]} and {limits[1]}?", f"Count the {many} whose {said} lies from {limits[0]} to {limits[1]}.")  # fmt: skip


def _dated(table: TableFacts, date: ColumnFacts, random: Random) -> Iterator[Draft]:
    name, one, many, by, said = q(table.name), table.one, table.many, q(date.name), date.said
    label = table.label
    year_of = f"STRFTIME('%Y', {by})"

    def draft(template: str, sql: str, *texts: str, hard: bool = False) -> Draft:
        return drafted(template, [table], sql, texts, "moderate" if hard else "simple")

    years = sorted({value[:4] for value in date.values})
    for year in random.sample(years, min(2, len(years))):
        yield draft("count_in_year", f"SELECT COUNT(*) FROM {name} WHERE {year_of} = '{year}'", f"How many {many} have a {said} in {year}?", f"Count the {many} whose {said} falls in the year {year}.", hard=True)  # fmt: skip
        if label:
            yield draft("list_after", f"SELECT {q(label.name)} FROM {name} WHERE {by} > '{year}-06-30'", f"Which {many} have a {said} after {year}-06-30?", f"List the {label.said} of {many} whose {said} is later than {year}-06-30.")  # fmt: skip
        yield draft("count_before", f"SELECT COUNT(*) FROM {name} WHERE {by} < '{year}-07-01'", f"How many {many} have a {said} before {year}-07-01?", f"Count the {many} with a {said} earlier than {year}-07-01.")  # fmt: skip
    if len(years) > 1:
        yield draft("per_year", f"SELECT {year_of}, COUNT(*) FROM {name} WHERE {by} IS NOT NULL GROUP BY {year_of}", f"How many {many} are there for each year of {said}?", f"Count the {many} per {said} year.", hard=True)  # fmt: skip
    yield draft("latest", f"SELECT MAX({by}) FROM {name}", f"What is the latest {said} of any {one}?", f"When is the most recent {said} among the {many}?")  # fmt: skip
    yield draft("earliest", f"SELECT MIN({by}) FROM {name}", f"What is the earliest {said} of any {one}?", f"When is the first {said} among the {many}?")  # fmt: skip
    if label and not date.n_null:
        yield draft("newest", f"SELECT {q(label.name)} FROM {name} ORDER BY {by} DESC LIMIT 1", f"Which {one} has the latest {said}?", f"Name the {one} with the most recent {said}.")  # fmt: skip
        yield draft("oldest", f"SELECT {q(label.name)} FROM {name} ORDER BY {by} LIMIT 1", f"Which {one} has the earliest {said}?", f"Name the {one} with the oldest {said}.")  # fmt: skip
