"""Names of tables and columns as words of a question."""

import re

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")
_IRREGULAR = {"person": "people", "child": "children", "man": "men", "woman": "women"}
_SAME = frozenset(
    ("series", "species", "staff", "data", "news", "equipment", "information", "inventory", "music")
)
_ENDS = ("id", "no", "code", "key", "num")


def words(name: str) -> str:
    """The words of a name, lower case.

    >>> words("birthDate"), words("order_items"), words("tblHTTPLog"), words("Unit Price (EUR)")
    ('birth date', 'order items', 'http log', 'unit price eur')
    """
    parts = [part.lower() for part in _PARTS.findall(name)]
    if len(parts) > 1 and parts[0] in ("tbl", "t"):
        parts = parts[1:]
    return " ".join(parts) or name.lower()


def singular(phrase: str) -> str:
    """The phrase with its last word in the singular, by rule.

    >>> singular("order items"), singular("categories"), singular("boxes"), singular("address"), singular("people")
    ('order item', 'category', 'box', 'address', 'person')
    """
    before, space, last = phrase.rpartition(" ")
    return before + space + _singular_word(last)


def plural(phrase: str) -> str:
    """The phrase with its last word in the plural, by rule.

    >>> plural("order item"), plural("category"), plural("box"), plural("person"), plural("days")
    ('order items', 'categories', 'boxes', 'people', 'days')
    """
    before, space, last = singular(phrase).rpartition(" ")
    if last in _SAME:
        return phrase
    if last in _IRREGULAR:
        return before + space + _IRREGULAR[last]
    if re.search(r"[^aeiou]y$", last):
        return before + space + last[:-1] + "ies"
    return before + space + last + ("es" if re.search(r"(?:s|x|z|ch|sh)$", last) else "s")


def column_words(column: str, table: str, description: str = "") -> str:
    """What a person calls a column: a short description, else its name without the table's and without `_id`.

    >>> column_words("author_name", "author"), column_words("author_id", "book"), column_words("cds", "x", "Standard score")
    ('name', 'author', 'standard score')
    """
    described = description.strip().rstrip(".")
    if 0 < len(described.split()) <= 4 and described.isprintable() and not re.search(r"[=:;()\d]", described):
        return described[0].lower() + described[1:] if described[1:2].islower() else described
    found = words(column)
    stem = singular(words(table))
    if found.startswith(stem + " "):
        found = found.removeprefix(stem + " ")
    parts = found.split()
    if len(parts) > 1 and parts[-1] in _ENDS:
        found = " ".join(parts[:-1])
    return found


def date_words(said: str) -> str:
    """What a date column is called where a noun is needed.

    >>> date_words("born"), date_words("seen on"), date_words("birth date"), date_words("created at")
    ('born date', 'seen date', 'birth date', 'created date')
    """
    if any(part in said.split() for part in ("date", "day", "time", "timestamp", "year", "month")):
        return said
    return said.removesuffix(" on").removesuffix(" at") + " date"


def _singular_word(word: str) -> str:
    for one, many in _IRREGULAR.items():
        if word == many:
            return one
    if word in _SAME or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word.removesuffix("s")
