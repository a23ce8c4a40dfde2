"""What Spider's own parser can read: a narrower spelling of SQL than its databases take.

Its evaluation gives an exact set match of 0 to whatever its parser does not read, so the official score needs to know.
The rules are written from what the parser (process_sql.py) refuses, not from its code.
"""

import re

from sqlglot import exp

from groundql.verdicts.parsing import parse_query

TEXT = re.compile(r"""'[^'"]*'|"[^'"]*\"""")  # as the parser sees them: either quote ends either
GLUED = re.compile(r"""[^\s()<>!]=|=[^\s()]|[\w.][-+*/]|[-+*/][\w.](?<!\s-\d)|<>""")
AS = re.compile(r"\bas\b", re.IGNORECASE)
VALUES = (exp.Literal, exp.Column, exp.Query, exp.Subquery, exp.Max, exp.Min, exp.Count, exp.Sum, exp.Avg)
COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.LT, exp.GTE, exp.LTE, exp.Like, exp.Between, exp.In, exp.Is)


def spider_reads(sql: str) -> bool:
    """Whether Spider's parser reads the query.

    It does not where an operator touches its neighbours (`a=1`), with `<>`, output names, aliases without AS, names in quotes,
    kinds of JOIN, commas or USING in FROM, brackets around conditions, NOT in front, EXISTS, IS, UNION ALL, lists of
    values, or OFFSET in an inner query.
    """
    bare = TEXT.sub("__text__", sql)
    tree = parse_query(sql)
    if tree is None or "'" in bare or '"' in bare or GLUED.search(bare):
        return False
    if len(AS.findall(bare)) != sum(1 for _ in tree.find_all(exp.TableAlias)):
        return False
    return all(_is_read(node, tree) for node in tree.walk())


def _is_read(node: exp.Expr, root: exp.Expr) -> bool:
    if isinstance(node, exp.Join):
        return not (node.kind or node.side or node.method or node.args.get("using"))
    if isinstance(node, exp.Select):
        return not any(isinstance(unit, exp.Alias) for unit in node.expressions)
    if isinstance(node, exp.SetOperation):
        return bool(node.args.get("distinct", True))
    if isinstance(node, exp.Identifier):
        return not node.quoted or (isinstance(node.parent, exp.Column) and _is_value(node.parent))
    if isinstance(node, exp.Paren):
        return not isinstance(node.this, (exp.Connector, exp.Predicate, exp.Not))
    if isinstance(node, exp.Not):
        return isinstance(node.this, (exp.In, exp.Between))
    if isinstance(node, exp.Offset):
        return node.parent is root
    if isinstance(node, COMPARISONS):
        return _has_read_values(node)
    return not isinstance(node, exp.Exists)


def _is_value(column: exp.Expr) -> bool:
    """Whether a column stands on the right of a comparison, where a name in double quotes is a text."""
    node = column
    while isinstance(node.parent, exp.Paren):
        node = node.parent
    return isinstance(node.parent, COMPARISONS) and node.arg_key != "this"


def _has_read_values(node: exp.Expr) -> bool:
    values = [node.args.get(name) for name in ("expression", "low", "high")] + node.expressions
    for value in values:
        bare = value.unnest() if value is not None else None
        if isinstance(bare, exp.Neg):
            bare = bare.this
        while isinstance(bare, exp.Binary):  # the parser looks at the first column and passes over the rest
            bare = bare.left
        if bare is not None and not isinstance(bare, VALUES):
            return False
    return len(node.expressions) <= 1
