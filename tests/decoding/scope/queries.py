"""Random queries of the dialect: the syntax always right, the names mostly, so that binding alone decides."""

import random
from typing import NamedTuple

from groundql.prompts.render import quoted
from groundql.records import Column, Schema, Table


def make_schema(**tables: str) -> Schema:
    """A schema from names: make_schema(book="id title") has one table with two columns; _ in a name is a space."""
    return Schema(
        db_id="made",
        tables=tuple(
            Table(
                name=name.replace("_", " "),
                columns=tuple(Column(name=c.replace("_", " ")) for c in columns.split()),
            )
            for name, columns in tables.items()
        ),
    )


LETTERS = make_schema(t="a b name", u="a c", o="x y", i="a b", v="p q")
SHARED = make_schema(a="id n", b="id m", c="id k n", d="id", e="ID k z")
AWKWARD = make_schema(
    **{
        "Order": "id Group Due_Date c1",
        "shop": "id Order T1",
        "T1": "id x",
        "a`b": "id select Ünit",
        "Two_Words": "id End",
    }
)
NARROW = make_schema(one="x", two="x y", three="z")
WIDE = make_schema(**{f"table{n}": f"id name col{n} ref{n % 7} note{n % 3}" for n in range(70)})
SCHEMAS = {"letters": LETTERS, "shared": SHARED, "awkward": AWKWARD, "narrow": NARROW}


class Source(NamedTuple):
    name: str  # as written after FROM
    alias: str  # as written before a dot
    columns: tuple[str, ...]


class Maker:
    """Makes queries; `slip` is the chance that a name is taken from anywhere."""

    def __init__(self, rng: random.Random, schema: Schema, slip: float = 0.04) -> None:
        self.rng = rng
        self.slip = slip
        self.tables = {quoted(t.name): tuple(quoted(c.name) for c in t.columns) for t in schema.tables}
        self.columns = sorted({c for columns in self.tables.values() for c in columns})
        self.n_aliases = 0
        self.n_outputs = 0
        self.ctes: dict[str, tuple[str, ...]] = {}
        self.scopes: list[list[Source]] = []
        self.outputs: list[list[str]] = []  # names of outputs that may be used, by block
        self.depth = 0
        self.unused: list[str] = []
        self.n_exists = 0
        self.clauses: list[str] = []  # of each open block: where in it the text stands
        self.reach: list[int] = []  # of each open block: how many of its sources an ON may name
        self.loose = False  # the query has a form that SQLite may take and the tracker refuses on purpose

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def query(self) -> str:
        text = ""
        if self.chance(0.25):
            parts = []
            for n in range(1, self.rng.choice((2, 2, 3))):
                body = self.body(0, cte=True)
                parts.append(f"Q{n} AS ({body})")
                self.ctes[f"Q{n}"] = tuple(self.last_names)
                self.unused.append(f"Q{n}")
            text = f"WITH {', '.join(parts)} "
        return text + self.body(0)

    def body(self, width: int, *, cte: bool = False) -> str:
        n_cores = 2 if self.chance(0.12) else 1
        width = width or (self.rng.choice((1, 1, 2, 3)) if not self.chance(0.1) else 0)
        cores = []
        names: list[str] = []
        for n in range(n_cores):
            wrong = self.chance(self.slip)
            cores.append(self.core(width + wrong, cte=cte, last=n == n_cores - 1, alone=n_cores == 1))
            names = names or self.names
        self.last_names = names
        text = cores[0]
        for core in cores[1:]:
            text += f" {self.pick('UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT')} {core}"
        if n_cores > 1 and self.chance(0.4):
            text += f" ORDER BY {self.compound_term(names, width)}"
        if self.chance(0.15):
            text += " LIMIT 3" + self.pick("", " OFFSET 1")
        return text

    def compound_term(self, names: list[str], width: int) -> str:
        if self.chance(0.4):
            return str(self.rng.randint(1, (width or 1) + self.chance(0.2)))
        return self.pick(*(names + self.names or ["1"]), self.pick(*self.columns)) + self.pick("", " DESC")

    def core(self, width: int, *, cte: bool, last: bool, alone: bool) -> str:
        sources = self.sources()
        self.scopes.append(sources)
        self.outputs.append([])
        self.clauses.append("select")
        self.reach.append(len(sources))
        self.loose |= len({source.alias.lower() for source in sources}) < len(sources)
        aggregates = self.chance(0.4)
        items, names = [], []
        star = width == 0 or self.chance(0.03)
        self.loose |= star and width > 0  # SQLite does not read an output that nothing uses
        for _ in range(width or 1):
            if star:
                items.append("*" if self.chance(0.7) or not sources else f"{self.source(sources).alias}.*")
                continue
            item = (
                self.expr("w" if self.chance(0.15) else "a" if aggregates else "s", 2)
                if self.chance(0.6)
                else self.column()
            )
            if self.chance(0.3) or cte:
                self.n_outputs += 1
                name = f"c{self.n_outputs % 19 + 1}"
                item += f" AS {name}"
                names.append(name)
            items.append(item)
        self.names = names
        self.outputs[-1] = names
        text = (
            f"SELECT {'DISTINCT ' if self.chance(0.1) else ''}{', '.join(items)} FROM {self.joined(sources)}"
        )
        self.clauses[-1] = "where"
        if self.chance(0.45):
            text += f" WHERE {self.expr('s', 2)}"
        grouped = self.chance(0.3)
        if grouped:
            self.clauses[-1] = "group"
            text += f" GROUP BY {self.term('s', len(items))}"
            self.clauses[-1] = "having"
            if self.chance(0.5):
                text += f" HAVING {self.expr('a', 2)}"
        if alone and self.chance(0.35):
            self.clauses[-1] = "order"
            self.loose |= len(self.scopes) > 1 or cte  # SQLite drops an ORDER BY that changes nothing, unread
            level = self.pick("s", "a", "w") if not grouped else "a"
            text += f" ORDER BY {self.term(level, len(items))}{self.pick('', '', ' DESC', ' NULLS LAST')}"
        for stack in (self.scopes, self.outputs, self.clauses, self.reach):
            stack.pop()
        return text

    def term(self, level: str, width: int) -> str:
        if self.chance(0.2):
            return str(self.rng.randint(1, width + self.chance(0.2)))
        if self.outputs[-1] and self.chance(0.3):
            return self.pick(*self.outputs[-1])
        terms = [self.expr(level, 1) for _ in range(1 + self.chance(0.2))]
        self.loose |= any(
            term[0] in "01'N" and " IS " in term for term in terms
        )  # a constant: an ordinal to SQLite
        return ", ".join(terms)

    def sources(self) -> list[Source]:
        found = []
        for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            tables = {**self.tables, **self.ctes}
            name = self.pick(*(self.ctes if self.ctes and self.chance(0.5) else tables))
            if self.unused:
                name = self.unused.pop()  # SQLite does not read a CTE that nothing names
            self.n_aliases += 1
            alias = f"T{self.n_aliases % 19 + 1}" if self.chance(0.8) else name
            found.append(Source(name, alias, tables[name]))
        return found

    def joined(self, sources: list[Source]) -> str:
        text = ""
        kind = ""
        self.clauses[-1] = "on"
        for n, source in enumerate(sources, start=1):
            if text:
                kind = self.pick("JOIN", "JOIN", "LEFT JOIN", "CROSS JOIN")
                text += f" {kind} "
            text += source.name + (f" AS {source.alias}" if source.alias != source.name else "")
            if kind and kind != "CROSS JOIN" and self.chance(0.9):
                self.reach[-1] = n if kind == "LEFT JOIN" else len(sources)
                text += f" ON {self.expr('s', 1)}"
        return text

    def source(self, sources: list[Source]) -> Source:
        return self.rng.choice(sources)

    def column(self) -> str:
        if self.chance(self.slip):
            return self.anything()
        if self.outputs[-1] and self.chance(0.12):
            self.loose |= self.clauses[-1] == "on"
            return self.pick(*self.outputs[-1])
        level = len(self.scopes) - 1
        if level and self.chance(0.25):
            level = self.rng.randint(0, level)
        sources = self.scopes[level]
        at = self.rng.randrange(len(sources))
        source = sources[at]
        column = self.pick(*(source.columns or self.columns))
        if self.chance(self.slip):
            return self.anything()
        own = level == len(self.scopes) - 1
        self.loose |= self.clauses[level] == "on" and at >= self.reach[level]
        self.loose |= any(clause in ("group", "order") for clause in self.clauses[level + 1 :])
        bare = own and self.chance(0.6 if len(sources) == 1 else 0.1)
        return column if bare else f"{source.alias}.{column}"

    def anything(self) -> str:
        """A bare column from anywhere."""
        column = self.pick(*self.columns)
        around = {c.lower() for scope in self.scopes[:-1] for source in scope for c in source.columns}
        own = {c.lower() for source in self.scopes[-1] for c in source.columns}
        self.loose |= column.lower() in around - own
        self.loose |= self.clauses[-1] == "on" and self.reach[-1] < len(self.scopes[-1])
        return column

    def subquery(self, width: int) -> str:
        names, outputs = (
            self.names if hasattr(self, "names") else [],
            self.last_names if hasattr(self, "last_names") else [],
        )
        body = self.body(width)
        self.names, self.last_names = names, outputs
        return body

    def expr(self, level: str, size: int) -> str:
        """An expression; level s: scalar, a: aggregates too, w: windows too."""
        roll = self.rng.random()
        if size <= 0 or roll < 0.2:
            return self.column() if self.chance(0.8) else self.pick("1", "0.5", "'it''s'", "NULL")
        less = size - 1
        if level != "s" and roll < 0.5:
            return self.window(less) if level == "w" and self.chance(0.5) else self.aggregate(less)
        if roll < 0.62:
            return f"{self.expr(level, less)} {self.pick('=', '>', '+', '||', 'LIKE', 'AND', 'OR')} {self.expr(level, less)}"
        if roll < 0.72 and self.depth < 2:
            self.depth += 1
            kind = self.rng.random()
            if kind < 0.4:
                text = f"{self.expr(level, less)} {self.pick('IN', 'NOT IN')} ({self.subquery(1)})"
            elif kind < 0.7:
                text = f"({self.subquery(1)})"
            else:
                self.n_exists += 1
                text = f"EXISTS ({self.subquery(0)})"
                self.n_exists -= 1
            self.depth -= 1
            return text
        return self.pick(
            f"NOT {self.expr(level, less)}",
            f"({self.expr(level, less)})",
            f"-{self.column()}",
            f"{self.expr(level, less)} IS NOT NULL",
            f"{self.expr(level, less)} BETWEEN {self.expr(level, 0)} AND {self.expr(level, 0)}",
            f"{self.expr(level, less)} IN ({self.expr(level, 0)}, {self.expr(level, 0)})",
            f"CASE WHEN {self.expr(level, less)} THEN {self.expr(level, 0)} ELSE {self.expr(level, 0)} END",
            f"CASE {self.expr(level, less)} WHEN {self.expr(level, 0)} THEN 1 END",
            f"CAST({self.expr(level, less)} AS REAL)",
            f"{self.pick('MAX', 'MIN', 'IFNULL')}({self.expr(level, less)}, {self.expr(level, 0)})",
            f"SUBSTR({self.expr(level, less)}, 1, 2)",
            f"{self.column()} LIKE '%x' ESCAPE '!'",
        )

    def aggregate(self, size: int) -> str:
        self.loose |= self.n_exists > 0  # SQLite does not read the outputs of EXISTS
        return self.pick(
            "COUNT(*)",
            f"COUNT(DISTINCT {self.expr('s', 0)})",
            f"{self.pick('SUM', 'MAX', 'MIN', 'AVG')}({self.expr('s', size)})",
            f"GROUP_CONCAT({self.column()}, ',')",
        )

    def window(self, size: int) -> str:
        call = self.pick(
            "RANK()",
            f"SUM({self.expr('a', size)})",
            f"LAG({self.expr('a', 0)}, 1)",
            "COUNT(*)",
            "NTILE(3)",
        )
        order = f"ORDER BY {self.expr('a', size)}{self.pick('', ' DESC')}"
        partition = f"PARTITION BY {self.expr('a', 0)}"
        return f"{call} OVER ({self.pick('', partition, order, f'{partition} {order}')})"


def random_query(rng: random.Random, schema: Schema, slip: float = 0.04) -> tuple[str, bool]:
    """(one query of the dialect, whether it may hold what SQLite takes and the tracker refuses on purpose)."""
    maker = Maker(rng, schema, slip)
    return maker.query(), maker.loose
