"""Conditions and values in canonical form: each rule beside the condition under which it is sound."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from groundql.verdicts.forms import Key, Place, Rules, Uncertain, bare_select, flattened, own, sexp, word

MAX_IN_LITERALS = 24
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
SILENT_ARGS = {"big_int", "safe", "comments", "copy", "nested", "is_string", "quoted"}


class Values:
    """Serialises expressions, under one numbering of the sources; queries inside them are left to `query`."""

    def __init__(self, names: dict[str, str], outputs: dict[str, list[str]], rules: Rules) -> None:
        self.names = names
        self.outputs = outputs
        self.rules = rules
        self.facts = rules.facts

    @abstractmethod
    def query(self, node: exp.Expr, place: Place) -> Key:
        """The form of a whole query."""

    @abstractmethod
    def base_table(self, alias: str, node: exp.Select) -> str | None:
        """The table that an alias of this SELECT stands for."""

    # Conditions

    def _conjuncts(self, node: exp.Expr, place: Place) -> set[Key]:
        """The parts of a conjunction in a place where only truth counts; duplicates and what is always true vanish."""
        parts = self._parts(node, "and", place.of_truth())
        return {part for part in parts if part not in ("(= n:1 n:1)", "n:1", "true")}

    def _parts(self, node: exp.Expr, word: str, place: Place) -> list[Key]:
        return flattened(self.condition(node, place), word)

    def condition(self, node: exp.Expr, place: Place, *, negated: bool | None = None) -> Key:
        """An expression, NOT pushed inside: De Morgan and reversed comparisons hold with NULL too.

        `negated` None: no NOT stands above; False: an even number of them, which makes 5 a truth, 1.
        """
        node = node.unnest()
        if isinstance(node, exp.Not):
            return self.condition(node.this, place, negated=not negated)
        if isinstance(node, (exp.And, exp.Or)):
            word = "and" if isinstance(node, exp.And) is not bool(negated) else "or"
            inside = place.of_truth()
            sides = [self.condition(side, inside, negated=negated) for side in (node.left, node.right)]
            return self._joined(word, sides, place)
        if type(node) in COMPARISONS:
            return self._comparison(node, place, negated=bool(negated))
        key = self._plain(node, place)
        if negated is False and not place.boolean and not isinstance(node, exp.Predicate):
            return sexp("truth", key)
        return sexp("not", key) if negated else key

    def _comparison(self, node: exp.Expr, place: Place, *, negated: bool) -> Key:
        if isinstance(node, exp.Between):
            return self._between(node, place, negated=negated)
        if type(node) in FLIPS and isinstance(node, exp.Binary):
            word, flipped = FLIPS[type(node)]
            sides = [self.value(side, place) for side in (node.left, node.right)]
            sides = sides[::-1] if flipped else sides
            return sexp(NEGATED[word], *sides[::-1]) if negated else sexp(word, *sides)
        if isinstance(node, (exp.EQ, exp.NEQ)):
            word = "=" if isinstance(node, exp.EQ) is not negated else "!="
            return sexp(word, *sorted(self.value(side, place) for side in (node.left, node.right)))
        if isinstance(node, exp.In):
            return self._in(node, place, negated=negated)
        if isinstance(node, exp.Exists):
            key = sexp("exists", self._exists(node.this, place))
            return sexp("not", key) if negated else key
        return "true" if bool(node.this) is not negated else "n:0"  # TRUE and FALSE

    def _joined(self, word: str, sides: list[Key], place: Place) -> Key:
        """AND or OR as a set; `x AND x` is x only where truth alone counts, since its value is 1 or 0."""
        parts = sorted({part for side in sides for part in flattened(side, word)})
        return parts[0] if len(parts) == 1 and place.boolean else sexp(word, *parts)

    def _between(self, node: exp.Between, place: Place, *, negated: bool) -> Key:
        if node.args.get("symmetric"):
            raise Uncertain("BETWEEN SYMMETRIC")
        this, low, high = (self.value(node.args[name], place) for name in ("this", "low", "high"))
        if negated:
            return self._joined("or", [sexp("lt", this, low), sexp("lt", high, this)], place)
        return self._joined("and", [sexp("le", low, this), sexp("le", this, high)], place)

    def _in(self, node: exp.In, place: Place, *, negated: bool) -> Key:
        """IN of literals is an OR of `=`, as SQLite defines it; of a subquery only what is in it counts."""
        this = self.value(node.this, place)
        inner = node.args.get("query")
        if inner is not None:
            key = sexp("in", this, self._members(inner, place))
            return sexp("not", key) if negated else key
        values = [value.unnest() for value in node.expressions]
        if not values or any(
            value for name, value in node.args.items() if name not in ("this", "expressions")
        ):
            raise Uncertain("IN of nothing, or of a table")
        keys = [self.value(value, place) for value in values]
        are_literals = all(isinstance(value, (exp.Literal, exp.Neg, exp.Null)) for value in values)
        if isinstance(node.this.unnest(), exp.Tuple) or not are_literals or len(set(keys)) > MAX_IN_LITERALS:
            key = sexp("in-list", this, *(sorted(set(keys)) if are_literals else keys))
            return sexp("not", key) if negated else key
        word, joiner = ("!=", "and") if negated else ("=", "or")
        return self._joined(joiner, [sexp(word, *sorted((this, key))) for key in keys], place)

    def _members(self, inner: exp.Expr, place: Place) -> Key:
        """A subquery of which only the set of rows counts: DISTINCT and ORDER BY without LIMIT do nothing."""
        select = bare_select(inner)
        if select is not None and not select.args.get("limit") and not select.args.get("offset"):
            select = select.copy()
            select.set("order", None)
            select.set("distinct", None)
            return self.query(select, place.of_query())
        return self.query(inner, place.of_query())

    def _exists(self, inner: exp.Expr, place: Place) -> Key:
        """As `_members`, and the columns do not count, unless an aggregate without GROUP BY makes the one row."""
        select = bare_select(inner)
        if select is None or select.args.get("limit") or select.args.get("offset"):
            return self.query(inner, place.of_query())
        one_row = not select.args.get("group") and any(own(e, exp.AggFunc) for e in select.expressions)
        if not one_row and not select.args.get("having"):
            select = select.copy()
            select.set("expressions", [exp.Literal.number(1)])
        return self._members(select, place)

    # Values

    def value(self, node: exp.Expr, place: Place) -> Key:
        """Any expression in a place where its value counts."""
        return self.condition(node, place.of_value())

    def _plain(self, node: exp.Expr, place: Place) -> Key:
        place = place.of_value()
        special = _SPECIAL.get(type(node))
        if special is not None:
            return special(self, node, place)
        if isinstance(node, exp.Anonymous):
            if node.name.lower() in ("random", "randomblob"):
                raise Uncertain("chance")
            return sexp("call", word(node.name.lower()), *(self.value(e, place) for e in node.expressions))
        if isinstance(node, (exp.Rand, exp.Collate, exp.Placeholder, exp.Parameter, exp.Star)):
            raise Uncertain(type(node).__name__)
        if isinstance(node, exp.Query):
            return self._scalar(node, place)
        return self._generic(node, place)

    def _scalar(self, node: exp.Expr, place: Place) -> Key:
        """A subquery as a value gives its first row: which that is depends on order, unless it has only one."""
        select = bare_select(node)
        one_row = (
            select is not None
            and not select.args.get("group")
            and any(own(e, exp.AggFunc) for e in select.expressions)
        )
        return sexp("scalar", self.query(node, replace(place, picky=not one_row and not self.rules.relaxed)))

    def _column(self, node: exp.Column, place: Place) -> Key:
        if not node.table:
            raise Uncertain(f"column {node.name}")
        name = self.names.get(node.table, node.table)
        if node.table in self.outputs:
            return f"{name}.out{self.outputs[node.table].index(node.name)}"
        return f"{name}.{word(node.name)}"

    def _literal(self, node: exp.Literal, place: Place) -> Key:
        if self.rules.relaxed:
            try:
                return f"n:{float(node.name):g}"
            except ValueError:
                return f"s:{word(node.name.lower())}"
        return f"s:{word(node.name)}" if node.is_string else f"n:{word(node.name.lower())}"

    def _commutes(self, node: exp.Binary, place: Place) -> Key:
        return sexp(type(node).__name__, *sorted(self.value(side, place) for side in (node.left, node.right)))

    def _count(self, node: exp.Count, place: Place) -> Key:
        """COUNT of a literal or of a column that cannot be NULL counts rows."""
        inner = node.this
        if isinstance(inner, exp.Star) or (isinstance(inner, exp.Literal) and not node.expressions):
            return "(count *)"
        if isinstance(inner, exp.Distinct):
            keys = [self.value(e, place) for e in inner.expressions]
            return sexp("count-distinct", *keys)
        select = node.find_ancestor(exp.Select)
        if isinstance(inner, exp.Column) and select is not None:
            table = self.base_table(inner.table, select)
            if table and (table, inner.name) in self.facts.not_null:
                return "(count *)"
        return sexp("count", self.value(inner, place))

    def _extreme(self, node: exp.Expr, place: Place) -> Key:
        """MIN(DISTINCT x) is MIN(x); with several arguments it is a plain function."""
        inner = node.this
        if isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
            inner = inner.expressions[0]
        return sexp(type(node).__name__, *(self.value(e, place) for e in (inner, *node.expressions)))

    def _sum(self, node: exp.Sum, place: Place) -> Key:
        inner = node.this
        if self.rules.relaxed and isinstance(inner, (exp.If, exp.Case)):
            key = self.value(inner, place)
            if key.startswith("(if ") and key.endswith(" n:1 n:0)"):
                return sexp("count", key[: -len(" n:0)")] + " null)")
        return self._generic(node, place)

    def _case(self, node: exp.Case, place: Place) -> Key:
        """CASE with one branch is IIF; ELSE NULL says nothing. The conditions of a CASE without operand are truths."""
        operand = self.value(node.this, place) if node.this else ""
        default = node.args.get("default")
        last = self.value(default, place) if default is not None else "null"
        truth = place.of_truth()
        branches = [
            (
                self.value(branch.this, place) if operand else self.condition(branch.this, truth),
                self.value(branch.args["true"], place),
            )
            for branch in node.args["ifs"]
        ]
        if not operand and len(branches) == 1:
            return sexp("if", *branches[0], last)
        return sexp("case", operand or "-", *(sexp(*branch) for branch in branches), last)

    def _if(self, node: exp.If, place: Place) -> Key:
        otherwise = node.args.get("false")
        return sexp(
            "if",
            self.condition(node.this, place.of_truth()),
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
            word(node.to.sql(dialect="sqlite").lower()),
        )
        return sexp("cast", self.value(node.this, place), family)

    def _is(self, node: exp.Is, place: Place) -> Key:
        return sexp("is", *(self.value(side, place) for side in (node.left, node.right)))

    def _generic(self, node: exp.Expr, place: Place) -> Key:
        """Any other node: its kind, and all that it holds, in the order of the argument names."""
        parts = [type(node).__name__]
        for name in sorted(node.args):
            value = node.args[name]
            if value is None or value is False or value == [] or name in SILENT_ARGS:
                continue
            children = value if isinstance(value, list) else [value]
            keys = [self.value(c, place) if isinstance(c, exp.Expr) else word(repr(c)) for c in children]
            parts.append(sexp(f":{name}", *keys))
        return sexp(*parts)


_SPECIAL: dict[type, Callable[[Values, "exp.Expr", Place], Key]] = {
    exp.Column: Values._column,  # type: ignore[dict-item]
    exp.Literal: Values._literal,  # type: ignore[dict-item]
    exp.Null: lambda form, node, place: "null",
    exp.Add: Values._commutes,  # type: ignore[dict-item]
    exp.Mul: Values._commutes,  # type: ignore[dict-item]
    exp.Count: Values._count,  # type: ignore[dict-item]
    exp.Min: Values._extreme,
    exp.Max: Values._extreme,
    exp.Sum: Values._sum,  # type: ignore[dict-item]
    exp.Case: Values._case,  # type: ignore[dict-item]
    exp.If: Values._if,  # type: ignore[dict-item]
    exp.Cast: Values._cast,  # type: ignore[dict-item]
    exp.Is: Values._is,  # type: ignore[dict-item]
}
