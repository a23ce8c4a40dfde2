"""Whether two queries are certified equal without running them. No certificate says nothing about inequality."""

import functools
from collections import Counter
from dataclasses import replace

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect as Dialects
from sqlglot.optimizer.merge_subqueries import merge_subqueries
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

from groundql.records import Dialect
from groundql.verdicts.canonical import canonical_key
from groundql.verdicts.facts import Facts
from groundql.verdicts.forms import NeedsUnmerged, Rules, Uncertain
from groundql.verdicts.parsing import parse_query

MARKS = "'\"`$"  # a token with one of these is a text or a quoted name
MAX_NODES = 1500  # larger trees are not rewritten: it would take longer than running them


def canonical(sql: str, facts: Facts, *, relaxed: bool = False) -> str | None:
    """The canonical form of `sql`, or None where it has none. Never raises.

    Ask only for what the engine prepares: sqlglot reads things into a query that SQLite refuses. With `relaxed`,
    rules are added that hold on most data alone: order of columns, ties at LIMIT, '150' for 150, the case of texts,
    SUM of ones and zeros for COUNT.
    """
    tree = parse_query(sql)
    if tree is None or facts.has_collations or sum(1 for _ in tree.walk()) > MAX_NODES:
        return None
    try:
        plain = _qualified(sql, facts)
        try:
            return canonical_key(*_merged(plain, Rules(facts=facts, relaxed=relaxed)))
        except NeedsUnmerged:
            return canonical_key(_named_apart(plain.copy()), Rules(facts=facts))
    except Uncertain:
        return None
    except Exception:  # sqlglot's rewriting raises many kinds of error on trees that it does not know
        return None


def same_words(sql: str, other: str, dialect: Dialect) -> bool:
    """Whether two queries differ in nothing but layout, comments, and the case of keywords and unquoted names.

    The one certificate on engines whose rules `canonical` does not know.
    """
    ours, theirs = _words(sql, dialect), _words(other, dialect)
    return ours is not None and ours == theirs


def _words(sql: str, dialect: Dialect) -> list[tuple[str, str]] | None:
    try:
        tokens = Dialects.get_or_raise(dialect).tokenize(sql)
    except Exception:  # a text that cannot be cut into tokens is like no other
        return None
    while tokens and tokens[-1].token_type.name == "SEMICOLON":
        tokens.pop()
    bare = [sql[token.start : token.end + 1] for token in tokens]
    return [
        (token.token_type.name, text if any(mark in text for mark in MARKS) else text.lower())
        for token, text in zip(tokens, bare, strict=True)
    ]


def similarity(sql: str, other: str, dialect: Dialect = "sqlite") -> float | None:
    """Share of nodes, each with its parent, that two trees have in common (Dice's coefficient), 0 to 1.

    Names and keywords count without case, and table aliases as the tables they stand for. None where one does not parse.
    """
    ours, theirs = _nodes(sql, dialect), _nodes(other, dialect)
    if ours is None or theirs is None:
        return None
    n_common = sum(min(count, theirs[node]) for node, count in ours.items() if node in theirs)
    return 2 * n_common / (ours.total() + theirs.total())


@functools.lru_cache(4096)
def marks(sql: str) -> frozenset[str]:
    """Tables and constants of a query, as far as even the relaxed form keeps them: 0 and 1 may vanish from it."""
    tree = parse_query(sql)
    if tree is None:
        return frozenset()
    tables = {f"table {table.name.lower()}" for table in tree.find_all(exp.Table)}
    tables -= {f"table {cte.alias.lower()}" for cte in tree.find_all(exp.CTE)}
    return frozenset(
        tables | {_constant(literal.name) for literal in tree.find_all(exp.Literal)} - {"0", "1"}
    )


def _constant(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return f"text {text.lower()}"


@functools.lru_cache(4096)
def _nodes(sql: str, dialect: Dialect) -> Counter[tuple[str, str]] | None:
    tree = parse_query(sql, dialect)
    return None if tree is None else _marks(tree)


def _marks(tree: exp.Expr) -> Counter[tuple[str, str]]:
    aliases = {t.alias.lower(): t.name.lower() for t in tree.find_all(exp.Table) if t.alias}

    def label(node: exp.Expr | None) -> str:
        if isinstance(node, exp.Column):
            table = aliases.get(node.table.lower(), node.table.lower())
            return f"column {table}.{node.name.lower()}"
        if isinstance(node, exp.Table):
            return f"table {node.name.lower()}"
        return f"literal {node.name}" if isinstance(node, exp.Literal) else type(node).__name__

    left_out = (exp.Identifier, exp.TableAlias, exp.Alias, exp.Paren)
    marks: Counter[tuple[str, str]] = Counter()
    for node in tree.walk():
        if not isinstance(node, left_out):
            parent = node.parent
            while isinstance(parent, left_out):
                parent = parent.parent
            marks[(label(node), label(parent))] += 1
    return marks


@functools.lru_cache(1024)
def _qualified(sql: str, facts: Facts) -> exp.Expr:
    """The tree of `sql` with every column under its source and stars written out. Do not change it."""
    parsed = parse_query(sql)
    assert parsed is not None
    tree = parsed.copy()
    _texts_for_quoted(tree, facts)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("this", identifier.name.lower())
    for table in tree.find_all(exp.Table):
        if table.args.get("db") or table.args.get("catalog"):
            raise Uncertain("a schema's name before a table")
    _refuse_shadowing(tree, facts)
    return qualify(tree, schema=facts.schema, dialect="sqlite", quote_identifiers=False, identify=False)


def _merged(plain: exp.Expr, rules: Rules) -> tuple[exp.Expr, Rules]:
    """A copy with derived tables merged into the queries around them, unless an inner order would be lost."""
    if any(select.args.get("order") for select in plain.find_all(exp.Select) if select is not plain):
        return _named_apart(plain.copy()), rules
    n_before = sum(1 for _ in plain.find_all(exp.Select))
    tree = merge_subqueries(plain.copy())
    is_merged = sum(1 for _ in tree.find_all(exp.Select)) < n_before
    return _named_apart(tree), replace(rules, is_merged=is_merged)


def _texts_for_quoted(tree: exp.Expr, facts: Facts) -> None:
    """Turn each quoted name that no table and no output has into a text, as SQLite does with "x"."""
    known = {column for t in tree.find_all(exp.Table) for column in facts.columns.get(t.name.lower(), ())}
    known |= {alias.alias.lower() for alias in tree.find_all(exp.Alias)} | {"rowid", "oid", "_rowid_"}
    for column in list(tree.find_all(exp.Column)):
        name = column.this
        if (
            isinstance(name, exp.Identifier)
            and name.quoted
            and not column.table
            and name.name.lower() not in known
        ):
            column.replace(exp.Literal.string(name.name))


def _refuse_shadowing(tree: exp.Expr, facts: Facts) -> None:
    """An output name that is also a column, of something else, is read by SQLite one way and by sqlglot another."""
    for select in tree.find_all(exp.Select):
        tables = [t for t in select.find_all(exp.Table) if t.find_ancestor(exp.Select) is select]
        columns = {column for t in tables for column in facts.columns.get(t.name, ())}
        is_plain = all(t.name in facts.columns for t in tables) and not select.find(exp.Subquery, exp.CTE)
        used = {c.name for c in select.find_all(exp.Column) if not c.table}
        for output in select.expressions:
            if not isinstance(output, exp.Alias) or output.alias not in used:
                continue
            inner = output.this
            is_itself = isinstance(inner, exp.Column) and inner.name == output.alias
            if not is_itself and (output.alias in columns or not is_plain):
                raise Uncertain("an output name shadows a column")


def _named_apart(tree: exp.Expr) -> exp.Expr:
    """The tree, each source in it under an alias that no other has."""
    scopes = traverse_scope(tree)
    by_node = {id(scope.expression): scope for scope in scopes}
    new_names: dict[tuple[int, str], str] = {}
    for scope in scopes:
        for alias, (node, _) in scope.selected_sources.items():
            new_names[(id(scope), alias)] = f"s{len(new_names)}"
            holder = node if isinstance(node, (exp.Table, exp.Subquery)) else node.parent
            if not isinstance(holder, (exp.Table, exp.Subquery)):
                raise Uncertain(f"source {alias}")
            holder.set("alias", exp.TableAlias(this=exp.to_identifier(new_names[(id(scope), alias)])))
    renamed = []
    for column in tree.find_all(exp.Column):
        if column.table:
            owner = _owner(column, by_node, new_names)
            renamed.append((column, owner))
    for column, name in renamed:
        column.set("table", exp.to_identifier(name))
    return tree


def _owner(column: exp.Column, by_node: dict[int, Scope], new_names: dict[tuple[int, str], str]) -> str:
    node = column.parent
    while node is not None and id(node) not in by_node:
        node = node.parent
    scope = by_node[id(node)] if node is not None else None
    while scope is not None:
        name = new_names.get((id(scope), column.table))
        if name is not None:
            return name
        scope = scope.parent
    raise Uncertain(f"{column.table}.{column.name} has no source")
