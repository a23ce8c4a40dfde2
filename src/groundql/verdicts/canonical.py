"""A canonical form of a query: two queries with one form give one result, on every database of that schema.

Every rule stands beside the condition under which it is sound, with bags, three-valued logic and SQLite's own habits. Where a rule cannot be sure it keeps the difference; where a query
is beyond it, `Uncertain` is raised. What SQLite leaves open (ties in ORDER BY and at LIMIT, the order of group_concat,
bare columns of a group) depends on its plan, and the plan on how the query is written: such a SELECT is `picky`, and
its form is the text itself, up to names and brackets.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from groundql.verdicts.form_values import SILENT_ARGS, Values
from groundql.verdicts.forms import Key, NeedsUnmerged, Place, Rules, Uncertain, bare_columns, own, sexp, word

MAX_NAMINGS = 720  # ways to number several uses of one table that are tried
ORDER_BOUND = (exp.GroupConcat, exp.ArrayAgg, exp.JSONArrayAgg, exp.JSONObjectAgg)
UNSURE_NAMES = ("random", "randomblob", "group_concat", "string_agg", "json_group_array", "json_group_object")
SELECT_ARGS = {
    "expressions",
    "from_",
    "joins",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "distinct",
    "with_",
}


def canonical_key(tree: exp.Expr, rules: Rules) -> Key:
    """The canonical form of a qualified tree whose sources have aliases of their own.

    Uses of one table are numbered in each possible way, up to 720, and the least form is taken.
    """
    uses: dict[str, list[str]] = {}
    outputs: dict[str, list[str]] = {}  # of derived tables, by alias: their columns go by place
    views = {cte.alias: cte.this.named_selects for cte in tree.find_all(exp.CTE)}
    for source in tree.find_all(exp.Table, exp.Subquery):
        if isinstance(source, exp.Table) and source.name not in views:
            uses.setdefault(word(source.name), []).append(source.alias_or_name)
        elif source.alias:
            uses.setdefault("~", []).append(source.alias)
            is_cte = isinstance(source, exp.Table)
            outputs[source.alias] = views[source.name] if is_cte else source.this.named_selects
    n_namings = math.prod(math.factorial(len(aliases)) for aliases in uses.values())
    choices = [
        list(itertools.permutations(aliases)) if n_namings <= MAX_NAMINGS else [tuple(aliases)]
        for aliases in uses.values()
    ]
    forms = []
    for chosen in itertools.product(*choices):
        numbered = {
            alias: f"{table}#{n}"
            for table, aliases in zip(uses, chosen, strict=True)
            for n, alias in enumerate(aliases)
        }
        forms.append(_Form(numbered, outputs, rules).query(tree, Place()))
    return min(forms)


class _Form(Values):
    """One serialisation, under one numbering of the sources."""

    # Queries

    def query(self, node: exp.Expr, place: Place) -> Key:
        """A SELECT, set operation or VALUES, with brackets around it taken off."""
        while isinstance(node, (exp.Subquery, exp.Paren)):
            extra = {name for name, value in node.args.items() if value and name not in ("this", "alias")}
            if extra:
                raise Uncertain(f"a bracket with {extra}")
            node = node.this
        place = self._with_ctes(node, place)
        if isinstance(node, exp.Select):
            return self._select(node, place)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, place)
        raise Uncertain(type(node).__name__)

    def _with_ctes(self, node: exp.Expr, place: Place) -> Place:
        clause = node.args.get("with_")
        if clause is None:
            return place
        if clause.args.get("recursive"):
            raise Uncertain("recursive")
        derived = dict(place.derived)
        for cte in clause.expressions:
            if cte.args["alias"].columns:
                raise Uncertain("a CTE with named columns")
            derived[cte.alias] = self.query(cte.this, replace(place, derived=derived, boolean=False))
        return replace(place, derived=derived)

    def _set_operation(self, node: exp.SetOperation, place: Place) -> Key:
        if (place.picky or node.args.get("limit") or node.args.get("order")) and not self.rules.relaxed:
            return self._verbatim(node, place)
        inner = place.of_value()
        known = {"this", "expression", "distinct", "order", "limit", "offset", "with_"}
        if any(value for name, value in node.args.items() if name not in known):
            raise Uncertain("a set operation with more clauses")
        kind = type(node).__name__ + ("" if node.args.get("distinct") else "All")
        sides = [self.query(node.this, inner), self.query(node.expression, inner)]
        outputs = node.this
        while isinstance(outputs, (exp.SetOperation, exp.Subquery)):
            outputs = outputs.this
        names = list(enumerate(outputs.named_selects))
        order = self._order(node, {name: f"out{n}" for n, name in reversed(names)}, inner)
        return sexp(kind, *sides, *order, *self._limits(node, inner))

    def _select(self, node: exp.Select, place: Place) -> Key:
        unknown = {name for name, value in node.args.items() if value and name not in SELECT_ARGS}
        if unknown:
            raise Uncertain(f"SELECT with {unknown}")
        if not node.expressions:
            raise Uncertain("no columns")
        inside = place.of_query()
        if not self.rules.relaxed and (self._is_order_bound(node) or self._shows_order(node, place, inside)):
            return self._verbatim(node, place)
        sources, conditions = self._sources(node, inside)
        if node.args.get("where"):
            conditions |= self._conjuncts(node.args["where"].this, inside)
        projections = [self.value(output.unalias(), inside) for output in node.expressions]
        if self.rules.relaxed:
            projections.sort()
        outputs = self._outputs(node, inside)
        group = self._group(node, inside)
        having = sorted(self._conjuncts(node.args["having"].this, inside)) if node.args.get("having") else []
        return sexp(
            "select",
            "distinct" if self._is_distinct(node) else "all",
            sexp(*projections),
            sources,
            sexp("where", *sorted(conditions)),
            sexp("group", *group),
            sexp("having", *having),
            *self._order(node, outputs, inside),
            *self._limits(node, inside),
        )

    def _outputs(self, node: exp.Select, place: Place) -> dict[str, Key]:
        """What each output name stands for; of two outputs with one name, the first counts."""
        return {e.alias: self.value(e.unalias(), place) for e in reversed(node.expressions) if e.alias}

    def _shows_order(self, node: exp.Select, place: Place, inside: Place) -> bool:
        """Whether rows that ORDER BY leaves tied, or all where it is absent, could change places and be seen to."""
        order = node.args.get("order")
        limited = node.args.get("limit") or node.args.get("offset")
        if not (order or limited or place.picky):
            return False
        if order is None:
            return True
        keys = {self._ordered_key(e, self._outputs(node, inside), inside) for e in order.expressions}
        if all(self.value(e.unalias(), inside) in keys for e in node.expressions):
            return False
        group = node.args.get("group")
        if group and group.expressions:
            return not all(self.value(e, inside) in keys for e in group.expressions)
        columns = [e.this for e in order.expressions if isinstance(e.this, exp.Column) and e.this.table]
        is_one_table = not node.args.get("joins") and node.args.get("from_") and not node.args.get("distinct")
        return not (is_one_table and self._covers_key(node.args["from_"].this.alias_or_name, columns, node))

    def _verbatim(self, node: exp.Expr, place: Place) -> Key:
        """The text up to names: no rule applies, so that the engine plans both sides alike."""
        if self.rules.is_merged:
            raise NeedsUnmerged
        inside = {cte.alias for cte in node.find_all(exp.CTE)}
        for part in node.find_all(exp.Table, exp.Join):
            if isinstance(part, exp.Join) and part.kind == "CROSS":
                raise Uncertain("a comma and CROSS JOIN look alike here, and are planned otherwise")
            if isinstance(part, exp.Table) and part.name in place.derived and part.name not in inside:
                raise Uncertain("a CTE from outside")
        return sexp("as-written", self._written(node))

    def _written(self, node: exp.Expr) -> Key:
        if isinstance(node, exp.Column):
            return self._column(node, Place())
        if isinstance(node, exp.Paren):
            return self._written(node.this)
        if isinstance(node, exp.Alias):
            return self._written(node.this)  # columns of derived tables go by their place, not their name
        if isinstance(node, exp.Ordered) and isinstance(node.this, exp.Column) and not node.this.table:
            select = node.find_ancestor(exp.Select)
            named = [e.this for e in select.expressions if e.alias == node.this.name] if select else []
            if not named:
                raise Uncertain(f"ORDER BY {node.this.name}")
            node = exp.Ordered(**{**node.args, "this": named[0].copy()})
        if isinstance(node, exp.TableAlias):
            return self.names.get(node.name, word(node.name))
        parts = [type(node).__name__]
        for name in sorted(node.args):
            value = node.args[name]
            if value is None or value is False or value == [] or name in SILENT_ARGS - {"is_string"}:
                continue
            children = value if isinstance(value, list) else [value]
            keys = [self._written(c) if isinstance(c, exp.Expr) else word(repr(c)) for c in children]
            parts.append(sexp(f":{name}", *keys))
        return sexp(*parts)

    def _is_order_bound(self, node: exp.Select) -> bool:
        """Whether the order of rows can reach the result: group_concat and its like, and bare columns of groups."""
        if any(True for _ in node.find_all(*ORDER_BOUND)):
            return True
        if any(function.name.lower() in UNSURE_NAMES for function in node.find_all(exp.Anonymous)):
            return True
        if any(True for _ in node.find_all(exp.Window)):
            return True
        group = node.args.get("group")
        parts = [
            e for e in (*node.expressions, node.args.get("having"), node.args.get("order")) if e is not None
        ]
        if not group and not any(own(e, exp.AggFunc) for e in parts):
            return False
        keys = {e.sql() for e in group.expressions} if group else set()
        columns = [e for e in (group.expressions if group else []) if isinstance(e, exp.Column)]
        fixed = {c.table for c in columns if self._covers_key(c.table, columns, node)}
        bare = [column for e in parts for column in bare_columns(e, keys)]
        return any(column.table and column.table not in fixed for column in bare)

    def _covers_key(self, alias: str, columns: Sequence[exp.Column], node: exp.Select) -> bool:
        key = self.facts.keys.get(self.base_table(alias, node) or "")
        return key is not None and key <= {column.name for column in columns if column.table == alias}

    def base_table(self, alias: str, node: exp.Select) -> str | None:
        """The table that an alias of this SELECT stands for, where it is one and no outer join can blank it."""
        joins = node.args.get("joins") or []
        if any(join.side or join.method for join in joins):
            return None
        sources = [node.args["from_"].this] if node.args.get("from_") else []
        for source in (*sources, *(join.this for join in joins)):
            if (
                source.alias_or_name == alias
                and isinstance(source, exp.Table)
                and source.name in self.facts.columns
            ):
                return str(source.name)
        return None

    def _sources(self, node: exp.Select, place: Place) -> tuple[Key, set[Key]]:
        """(the sources, the conditions that inner joins put on them).

        Inner and cross joins are a bag of sources and one conjunction; with an outer join all stays as written.
        """
        if not node.args.get("from_"):
            return "nothing", set()
        joins = node.args.get("joins") or []
        first = self._source(node.args["from_"].this, place)
        if any(join.args.get("using") or join.method for join in joins):
            raise Uncertain("USING or NATURAL")
        if any(join.side or join.kind not in ("", "INNER", "CROSS") for join in joins):
            parts = [sexp(first)]
            for join in joins:
                on = join.args.get("on")
                condition = sorted(self._conjuncts(on, place)) if on is not None else []
                parts.append(sexp(join.side or "inner", self._source(join.this, place), *condition))
            return sexp("joined", *parts), set()
        conditions: set[Key] = set()
        keys = [first]
        for join in joins:
            keys.append(self._source(join.this, place))
            if join.args.get("on") is not None:
                conditions |= self._conjuncts(join.args["on"], place)
        return sexp("from", *sorted(keys)), conditions

    def _source(self, source: exp.Expr, place: Place) -> Key:
        name = self.names.get(source.alias_or_name, source.alias_or_name)
        if isinstance(source, exp.Table):
            extra = {key for key, value in source.args.items() if value and key not in ("this", "alias")}
            if extra:
                raise Uncertain(f"a table with {extra}")
            if source.name in place.derived:
                return sexp("derived", name, place.derived[source.name])
            if source.name not in self.facts.columns:
                raise Uncertain(f"table {source.name}")
            return name
        if isinstance(source, exp.Subquery) and source.alias:
            return sexp("derived", name, self.query(exp.Subquery(this=source.this), place))
        raise Uncertain(type(source).__name__)

    def _group(self, node: exp.Select, place: Place) -> list[Key]:
        group = node.args.get("group")
        if not group:
            return []
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise Uncertain("GROUP BY with more than expressions")
        keys = [self.value(e, place) for e in group.expressions]
        return sorted(set(keys))

    def _is_distinct(self, node: exp.Select) -> bool:
        """DISTINCT over the whole key of one table, ungrouped, removes nothing: the key holds no NULL."""
        distinct = node.args.get("distinct")
        if not distinct:
            return False
        if distinct.args.get("on"):
            raise Uncertain("DISTINCT ON")
        if node.args.get("group") or node.args.get("joins") or not node.args.get("from_"):
            return True
        if any(own(e, exp.AggFunc) for e in node.expressions):
            return True
        table = self.base_table(node.args["from_"].this.alias_or_name, node)
        key = self.facts.keys.get(table or "")
        outputs = {e.unalias().name for e in node.expressions if isinstance(e.unalias(), exp.Column)}
        return key is None or not key <= outputs

    def _order(self, node: exp.Expr, outputs: dict[str, Key], place: Place) -> list[Key]:
        """ORDER BY with output names replaced by what they stand for; direction and the place of NULL are kept."""
        order = node.args.get("order")
        if not order:
            return []
        parts = []
        for ordered in order.expressions:
            if not isinstance(ordered, exp.Ordered):
                raise Uncertain("ORDER BY")
            key = self._ordered_key(ordered, outputs, place)
            descending = bool(ordered.args.get("desc"))
            parts.append(
                sexp(
                    "desc" if descending else "asc",
                    "first" if ordered.args.get("nulls_first") else "last",
                    key,
                )
            )
        return [sexp("order", *dict.fromkeys(parts))]

    def _ordered_key(self, ordered: exp.Expr, outputs: dict[str, Key], place: Place) -> Key:
        this = ordered.this
        if isinstance(this, exp.Literal) and not this.is_string and ordered.find_ancestor(exp.SetOperation):
            return f"out{int(this.name) - 1}"
        if isinstance(this, exp.Column) and not this.table:
            if this.name not in outputs:
                raise Uncertain(f"ORDER BY {this.name}")
            return outputs[this.name]
        return self.value(this, place)

    def _limits(self, node: exp.Expr, place: Place) -> list[Key]:
        found = []
        for name in ("limit", "offset"):
            clause = node.args.get(name)
            if clause is not None:
                found.append(sexp(name, self.value(clause.expression, place)))
        return found
