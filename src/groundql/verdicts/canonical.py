"""A canonical form of a query: two queries with one form give one result, on every database of that schema.

This module is long for one function's sake: every rule stands beside the condition under which it is sound, with
bags, three-valued logic and SQLite's own habits. Where a rule cannot be sure it keeps the difference; where a query
is beyond it, `Uncertain` is raised. Results that SQLite leaves open (ties at LIMIT, the order of group_concat, bare
columns of a group) are kept as written: there the order of sources stays significant (`picky`).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from sqlglot import exp

from groundql.verdicts.facts import Facts

MAX_IN_LITERALS = 24
MAX_NAMINGS = 720  # ways to number several uses of one table that are tried
FLIPS: dict[type[exp.Expr], tuple[str, bool]] = {
    exp.GT: ("lt", True),
    exp.GTE: ("le", True),
    exp.LT: ("lt", False),
    exp.LTE: ("le", False),
}
COMPARISONS = {*FLIPS, exp.EQ, exp.NEQ, exp.Between, exp.In, exp.Exists, exp.Boolean}
NEGATED = {"lt": "le", "le": "lt"}
REAL_TYPES = {"FLOAT", "DOUBLE"}
INTEGER_TYPES = {"TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "INT128", "UINT", "UBIGINT"}
TEXT_TYPES = {"TEXT", "VARCHAR", "CHAR", "NCHAR", "NVARCHAR"}
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
SILENT_ARGS = {"big_int", "safe", "comments", "copy", "nested", "is_string", "quoted"}

Key = str


class Uncertain(Exception):
    """The query is beyond the rules: it has no canonical form here."""


@dataclass(frozen=True)
class Place:
    """Where a node stands, as far as rules depend on it."""

    picky: bool = False  # the order of rows reaches the result
    boolean: bool = False  # only true, or not true, counts
    derived: dict[str, Key] = field(default_factory=dict)  # CTE name -> its key


@dataclass(frozen=True)
class Rules:
    """`relaxed` adds rules that hold on most data alone."""

    facts: Facts
    relaxed: bool = False


def canonical_key(tree: exp.Expr, rules: Rules) -> Key:
    """The canonical form of a qualified tree whose sources have aliases of their own.

    Uses of one table are numbered in each possible way, up to 720, and the least form is taken.
    """
    uses: dict[str, list[str]] = {}
    views = {cte.alias for cte in tree.find_all(exp.CTE)}
    for source in tree.find_all(exp.Table, exp.Subquery):
        if isinstance(source, exp.Table) and source.name not in views:
            uses.setdefault(_word(source.name), []).append(source.alias_or_name)
        elif source.alias:
            uses.setdefault("~", []).append(source.alias)
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
        forms.append(_Form(numbered, rules).query(tree, Place()))
    return min(forms)


def _word(text: str) -> str:
    """`text` without blanks and brackets, which mean something in a key."""
    return quote(text, safe="")


def _sexp(*parts: str) -> Key:
    return "(" + " ".join(parts) + ")"


class _Form:
    """One serialisation, under one numbering of the sources."""

    def __init__(self, names: dict[str, str], rules: Rules) -> None:
        self.names = names
        self.rules = rules
        self.facts = rules.facts

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
        limited = bool(node.args.get("limit") or node.args.get("offset"))
        inner = replace(place, picky=place.picky or limited, boolean=False)
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
        return _sexp(kind, *sides, *order, *self._limits(node, inner))

    def _select(self, node: exp.Select, place: Place) -> Key:
        unknown = {name for name, value in node.args.items() if value and name not in SELECT_ARGS}
        if unknown:
            raise Uncertain(f"SELECT with {unknown}")
        limited = bool(node.args.get("limit") or node.args.get("offset"))
        picky = place.picky or limited or self._is_order_bound(node)
        inside = replace(place, picky=picky and not self.rules.relaxed, boolean=False)
        sources, conditions = self._sources(node, inside)
        if node.args.get("where"):
            conditions |= self._conjuncts(node.args["where"].this, inside)
        projections = [self.value(output.unalias(), inside) for output in node.expressions]
        if not node.expressions:
            raise Uncertain("no columns")
        if self.rules.relaxed:
            projections.sort()
        outputs = {  # of two outputs with one name, the first counts
            output.alias: self.value(output.unalias(), inside)
            for output in reversed(node.expressions)
            if output.alias
        }
        group = self._group(node, inside)
        having = sorted(self._conjuncts(node.args["having"].this, inside)) if node.args.get("having") else []
        return _sexp(
            "select",
            "distinct" if self._is_distinct(node) else "all",
            _sexp(*projections),
            sources,
            _sexp("where", *sorted(conditions)),
            _sexp("group", *group),
            _sexp("having", *having),
            *self._order(node, outputs, inside),
            *self._limits(node, inside),
        )

    def _is_order_bound(self, node: exp.Select) -> bool:
        """Whether the order of rows can reach the result: group_concat and its like, and bare columns of groups."""
        if any(True for _ in node.find_all(*ORDER_BOUND)):
            return True
        if any(function.name.lower() in UNSURE_NAMES for function in node.find_all(exp.Anonymous)):
            return True
        if any(True for _ in node.find_all(exp.Window)):
            return True
        group = node.args.get("group")
        own = [
            e for e in (*node.expressions, node.args.get("having"), node.args.get("order")) if e is not None
        ]
        if not group and not any(_own(e, exp.AggFunc) for e in own):
            return False
        keys = {e.sql() for e in group.expressions} if group else set()
        columns = [e for e in (group.expressions if group else []) if isinstance(e, exp.Column)]
        fixed = {c.table for c in columns if self._covers_key(c.table, columns, node)}
        bare = [column for e in own for column in _bare_columns(e, keys)]
        return any(column.table and column.table not in fixed for column in bare)

    def _covers_key(self, alias: str, columns: Sequence[exp.Column], node: exp.Select) -> bool:
        key = self.facts.keys.get(self._base(alias, node) or "")
        return key is not None and key <= {column.name for column in columns if column.table == alias}

    def _base(self, alias: str, node: exp.Select) -> str | None:
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
            parts = [_sexp(first)]
            for join in joins:
                on = join.args.get("on")
                condition = sorted(self._conjuncts(on, place)) if on is not None else []
                parts.append(_sexp(join.side or "inner", self._source(join.this, place), *condition))
            return _sexp("joined", *parts), set()
        conditions: set[Key] = set()
        keys = [first]
        for join in joins:
            keys.append(self._source(join.this, place))
            if join.args.get("on") is not None:
                conditions |= self._conjuncts(join.args["on"], place)
        return _sexp("from", *(keys if place.picky else sorted(keys))), conditions

    def _source(self, source: exp.Expr, place: Place) -> Key:
        name = self.names.get(source.alias_or_name, source.alias_or_name)
        if isinstance(source, exp.Table):
            extra = {key for key, value in source.args.items() if value and key not in ("this", "alias")}
            if extra:
                raise Uncertain(f"a table with {extra}")
            if source.name in place.derived:
                return _sexp("derived", name, place.derived[source.name])
            if source.name not in self.facts.columns:
                raise Uncertain(f"table {source.name}")
            return name
        if isinstance(source, exp.Subquery) and source.alias:
            return _sexp("derived", name, self.query(exp.Subquery(this=source.this), place))
        raise Uncertain(type(source).__name__)

    def _group(self, node: exp.Select, place: Place) -> list[Key]:
        group = node.args.get("group")
        if not group:
            return []
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise Uncertain("GROUP BY with more than expressions")
        keys = [self.value(e, place) for e in group.expressions]
        return keys if place.picky else sorted(set(keys))

    def _is_distinct(self, node: exp.Select) -> bool:
        """DISTINCT over the whole key of one table, ungrouped, removes nothing: the key holds no NULL."""
        distinct = node.args.get("distinct")
        if not distinct:
            return False
        if distinct.args.get("on"):
            raise Uncertain("DISTINCT ON")
        if node.args.get("group") or node.args.get("joins") or not node.args.get("from_"):
            return True
        if any(_own(e, exp.AggFunc) for e in node.expressions):
            return True
        table = self._base(node.args["from_"].this.alias_or_name, node)
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
            this = ordered.this
            if isinstance(this, exp.Literal) and isinstance(node, exp.SetOperation) and this.name.isdigit():
                key = f"out{int(this.name) - 1}"
            elif isinstance(this, exp.Column) and not this.table:
                if this.name not in outputs:
                    raise Uncertain(f"ORDER BY {this.name}")
                key = outputs[this.name]
            else:
                key = self.value(this, place)
            descending = bool(ordered.args.get("desc"))
            parts.append(
                _sexp(
                    "desc" if descending else "asc",
                    "first" if ordered.args.get("nulls_first") else "last",
                    key,
                )
            )
        return [_sexp("order", *dict.fromkeys(parts))]

    def _limits(self, node: exp.Expr, place: Place) -> list[Key]:
        found = []
        for name in ("limit", "offset"):
            clause = node.args.get(name)
            if clause is not None:
                found.append(_sexp(name, self.value(clause.expression, place)))
        return found

    # Conditions

    def _conjuncts(self, node: exp.Expr, place: Place) -> set[Key]:
        """The parts of a conjunction in a place where only truth counts; duplicates and what is always true vanish."""
        parts = self._parts(node, "and", replace(place, boolean=True))
        return {part for part in parts if part not in ("(= n:1 n:1)", "n:1", "true")}

    def _parts(self, node: exp.Expr, word: str, place: Place) -> list[Key]:
        return _flattened(self.condition(node, place), word)

    def condition(self, node: exp.Expr, place: Place, *, negated: bool | None = None) -> Key:
        """An expression, NOT pushed inside: De Morgan and reversed comparisons hold with NULL too.

        `negated` None: no NOT stands above; False: an even number of them, which makes 5 a truth, 1.
        """
        node = node.unnest()
        if isinstance(node, exp.Not):
            return self.condition(node.this, place, negated=not negated)
        if isinstance(node, (exp.And, exp.Or)):
            word = "and" if isinstance(node, exp.And) is not bool(negated) else "or"
            inside = replace(place, boolean=True)
            sides = [self.condition(side, inside, negated=negated) for side in (node.left, node.right)]
            return self._joined(word, sides, place)
        if type(node) in COMPARISONS:
            return self._comparison(node, place, negated=bool(negated))
        key = self._plain(node, place)
        if negated is False and not place.boolean and not isinstance(node, exp.Predicate):
            return _sexp("truth", key)
        return _sexp("not", key) if negated else key

    def _comparison(self, node: exp.Expr, place: Place, *, negated: bool) -> Key:
        if isinstance(node, exp.Between):
            return self._between(node, place, negated=negated)
        if type(node) in FLIPS and isinstance(node, exp.Binary):
            word, flipped = FLIPS[type(node)]
            sides = [self.value(side, place) for side in (node.left, node.right)]
            sides = sides[::-1] if flipped else sides
            return _sexp(NEGATED[word], *sides[::-1]) if negated else _sexp(word, *sides)
        if isinstance(node, (exp.EQ, exp.NEQ)):
            word = "=" if isinstance(node, exp.EQ) is not negated else "!="
            return _sexp(word, *sorted(self.value(side, place) for side in (node.left, node.right)))
        if isinstance(node, exp.In):
            return self._in(node, place, negated=negated)
        if isinstance(node, exp.Exists):
            key = _sexp("exists", self._exists(node.this, place))
            return _sexp("not", key) if negated else key
        return "true" if bool(node.this) is not negated else "n:0"  # TRUE and FALSE

    def _joined(self, word: str, sides: list[Key], place: Place) -> Key:
        """AND or OR as a set; `x AND x` is x only where truth alone counts, since its value is 1 or 0."""
        parts = sorted({part for side in sides for part in _flattened(side, word)})
        return parts[0] if len(parts) == 1 and place.boolean else _sexp(word, *parts)

    def _between(self, node: exp.Between, place: Place, *, negated: bool) -> Key:
        if node.args.get("symmetric"):
            raise Uncertain("BETWEEN SYMMETRIC")
        this, low, high = (self.value(node.args[name], place) for name in ("this", "low", "high"))
        if negated:
            return self._joined("or", [_sexp("lt", this, low), _sexp("lt", high, this)], place)
        return self._joined("and", [_sexp("le", low, this), _sexp("le", this, high)], place)

    def _in(self, node: exp.In, place: Place, *, negated: bool) -> Key:
        """IN of literals is an OR of `=`, as SQLite defines it; of a subquery only what is in it counts."""
        this = self.value(node.this, place)
        inner = node.args.get("query")
        if inner is not None:
            key = _sexp("in", this, self._members(inner, place))
            return _sexp("not", key) if negated else key
        values = [value.unnest() for value in node.expressions]
        if not values or any(
            value for name, value in node.args.items() if name not in ("this", "expressions")
        ):
            raise Uncertain("IN of nothing, or of a table")
        keys = [self.value(value, place) for value in values]
        are_literals = all(isinstance(value, (exp.Literal, exp.Neg, exp.Null)) for value in values)
        if isinstance(node.this.unnest(), exp.Tuple) or not are_literals or len(set(keys)) > MAX_IN_LITERALS:
            key = _sexp("in-list", this, *(sorted(set(keys)) if are_literals else keys))
            return _sexp("not", key) if negated else key
        word, joiner = ("!=", "and") if negated else ("=", "or")
        return self._joined(joiner, [_sexp(word, *sorted((this, key))) for key in keys], place)

    def _members(self, inner: exp.Expr, place: Place) -> Key:
        """A subquery of which only the set of rows counts: DISTINCT and ORDER BY without LIMIT do nothing."""
        select = _bare_select(inner)
        if select is not None and not select.args.get("limit") and not select.args.get("offset"):
            select = select.copy()
            select.set("order", None)
            select.set("distinct", None)
            return self.query(select, replace(place, picky=False, boolean=False))
        return self.query(inner, replace(place, picky=False, boolean=False))

    def _exists(self, inner: exp.Expr, place: Place) -> Key:
        """As `_members`, and the columns do not count, unless an aggregate without GROUP BY makes the one row."""
        select = _bare_select(inner)
        if select is None or select.args.get("limit") or select.args.get("offset"):
            return self.query(inner, replace(place, picky=False, boolean=False))
        one_row = not select.args.get("group") and any(_own(e, exp.AggFunc) for e in select.expressions)
        if not one_row and not select.args.get("having"):
            select = select.copy()
            select.set("expressions", [exp.Literal.number(1)])
        return self._members(select, place)

    # Values

    def value(self, node: exp.Expr, place: Place) -> Key:
        """Any expression in a place where its value counts."""
        return self.condition(node, replace(place, boolean=False))

    def _plain(self, node: exp.Expr, place: Place) -> Key:
        place = replace(place, boolean=False)
        special = _SPECIAL.get(type(node))
        if special is not None:
            return special(self, node, place)
        if isinstance(node, exp.Anonymous):
            if node.name.lower() in ("random", "randomblob"):
                raise Uncertain("chance")
            return _sexp("call", _word(node.name.lower()), *(self.value(e, place) for e in node.expressions))
        if isinstance(node, (exp.Rand, exp.Collate, exp.Placeholder, exp.Parameter, exp.Star)):
            raise Uncertain(type(node).__name__)
        if isinstance(node, exp.Query):
            return self._scalar(node, place)
        return self._generic(node, place)

    def _scalar(self, node: exp.Expr, place: Place) -> Key:
        """A subquery as a value gives its first row: which that is depends on order, unless it has only one."""
        select = _bare_select(node)
        one_row = (
            select is not None
            and not select.args.get("group")
            and any(_own(e, exp.AggFunc) for e in select.expressions)
        )
        return _sexp("scalar", self.query(node, replace(place, picky=not one_row and not self.rules.relaxed)))

    def _column(self, node: exp.Column, place: Place) -> Key:
        if not node.table:
            raise Uncertain(f"column {node.name}")
        return f"{self.names.get(node.table, node.table)}.{_word(node.name)}"

    def _literal(self, node: exp.Literal, place: Place) -> Key:
        if self.rules.relaxed:
            try:
                return f"n:{float(node.name):g}"
            except ValueError:
                return f"s:{_word(node.name.lower())}"
        return f"s:{_word(node.name)}" if node.is_string else f"n:{_word(node.name.lower())}"

    def _commutes(self, node: exp.Binary, place: Place) -> Key:
        return _sexp(
            type(node).__name__, *sorted(self.value(side, place) for side in (node.left, node.right))
        )

    def _count(self, node: exp.Count, place: Place) -> Key:
        """COUNT of a literal or of a column that cannot be NULL counts rows."""
        inner = node.this
        if isinstance(inner, exp.Star) or (isinstance(inner, exp.Literal) and not node.expressions):
            return "(count *)"
        if isinstance(inner, exp.Distinct):
            keys = [self.value(e, place) for e in inner.expressions]
            return _sexp("count-distinct", *keys)
        select = node.find_ancestor(exp.Select)
        if isinstance(inner, exp.Column) and select is not None:
            table = self._base(inner.table, select)
            if table and (table, inner.name) in self.facts.not_null:
                return "(count *)"
        return _sexp("count", self.value(inner, place))

    def _extreme(self, node: exp.Expr, place: Place) -> Key:
        """MIN(DISTINCT x) is MIN(x); with several arguments it is a plain function."""
        inner = node.this
        if isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
            inner = inner.expressions[0]
        return _sexp(type(node).__name__, *(self.value(e, place) for e in (inner, *node.expressions)))

    def _sum(self, node: exp.Sum, place: Place) -> Key:
        inner = node.this
        if self.rules.relaxed and isinstance(inner, (exp.If, exp.Case)):
            key = self.value(inner, place)
            if key.startswith("(if ") and key.endswith(" n:1 n:0)"):
                return _sexp("count", key[: -len(" n:0)")] + " null)")
        return self._generic(node, place)

    def _case(self, node: exp.Case, place: Place) -> Key:
        """CASE with one branch is IIF; ELSE NULL says nothing. The conditions of a CASE without operand are truths."""
        operand = self.value(node.this, place) if node.this else ""
        default = node.args.get("default")
        last = self.value(default, place) if default is not None else "null"
        truth = replace(place, boolean=True)
        branches = [
            (
                self.value(branch.this, place) if operand else self.condition(branch.this, truth),
                self.value(branch.args["true"], place),
            )
            for branch in node.args["ifs"]
        ]
        if not operand and len(branches) == 1:
            return _sexp("if", *branches[0], last)
        return _sexp("case", operand or "-", *(_sexp(*branch) for branch in branches), last)

    def _if(self, node: exp.If, place: Place) -> Key:
        otherwise = node.args.get("false")
        return _sexp(
            "if",
            self.condition(node.this, replace(place, boolean=True)),
            self.value(node.args["true"], place),
            self.value(otherwise, place) if otherwise is not None else "null",
        )

    def _cast(self, node: exp.Cast, place: Place) -> Key:
        """Types of one affinity are one cast; DECIMAL, NUMERIC and others stay apart."""
        kind = node.to.this.name
        family = next(
            (
                name
                for name, kinds in (("real", REAL_TYPES), ("int", INTEGER_TYPES), ("text", TEXT_TYPES))
                if kind in kinds
            ),
            _word(node.to.sql(dialect="sqlite").lower()),
        )
        return _sexp("cast", self.value(node.this, place), family)

    def _is(self, node: exp.Is, place: Place) -> Key:
        return _sexp("is", *(self.value(side, place) for side in (node.left, node.right)))

    def _generic(self, node: exp.Expr, place: Place) -> Key:
        """Any other node: its kind, and all that it holds, in the order of the argument names."""
        parts = [type(node).__name__]
        for name in sorted(node.args):
            value = node.args[name]
            if value is None or value is False or value == [] or name in SILENT_ARGS:
                continue
            children = value if isinstance(value, list) else [value]
            keys = [self.value(c, place) if isinstance(c, exp.Expr) else _word(repr(c)) for c in children]
            parts.append(_sexp(f":{name}", *keys))
        return _sexp(*parts)


_SPECIAL: dict[type, Callable[[_Form, "exp.Expr", Place], Key]] = {
    exp.Column: _Form._column,  # type: ignore[dict-item]
    exp.Literal: _Form._literal,  # type: ignore[dict-item]
    exp.Null: lambda form, node, place: "null",
    exp.Add: _Form._commutes,  # type: ignore[dict-item]
    exp.Mul: _Form._commutes,  # type: ignore[dict-item]
    exp.Count: _Form._count,  # type: ignore[dict-item]
    exp.Min: _Form._extreme,
    exp.Max: _Form._extreme,
    exp.Sum: _Form._sum,  # type: ignore[dict-item]
    exp.Case: _Form._case,  # type: ignore[dict-item]
    exp.If: _Form._if,  # type: ignore[dict-item]
    exp.Cast: _Form._cast,  # type: ignore[dict-item]
    exp.Is: _Form._is,  # type: ignore[dict-item]
}


def _flattened(key: Key, word: str) -> list[Key]:
    """The parts of `(word a b ...)`, or the key itself."""
    opening = f"({word} "
    if not key.startswith(opening):
        return [key]
    parts, depth, start = [], 0, len(opening)
    body = key[:-1]
    for at in range(len(opening), len(body) + 1):
        mark = body[at] if at < len(body) else " "
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif mark == " " and depth == 0:
            parts.append(body[start:at])
            start = at + 1
    return parts


def _own(node: exp.Expr, kind: type) -> bool:
    """Whether `kind` stands in this expression, subqueries and window functions aside."""
    return any(
        isinstance(found, kind)
        and not (
            kind is exp.AggFunc and isinstance(found.parent, (exp.Window, exp.Filter)) and _in_window(found)
        )
        for found in node.walk(prune=lambda n: isinstance(n, exp.Query))
    )


def _in_window(node: exp.Expr) -> bool:
    parent = node.parent
    while isinstance(parent, (exp.Filter, exp.IgnoreNulls, exp.RespectNulls)):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def _bare_columns(node: exp.Expr, keys: set[str]) -> list[exp.Column]:
    """Columns outside aggregates, subqueries and expressions that are grouped by."""
    found: list[exp.Column] = []

    def visit(part: exp.Expr) -> None:
        if isinstance(part, (exp.AggFunc, exp.Query)) or part.sql() in keys:
            return
        if isinstance(part, exp.Column):
            found.append(part)
            return
        for child in part.iter_expressions():
            visit(child)

    visit(node)
    return found


def _bare_select(node: exp.Expr) -> exp.Select | None:
    while isinstance(node, (exp.Subquery, exp.Paren)):
        node = node.this
    return node if isinstance(node, exp.Select) else None
