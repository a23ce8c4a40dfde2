"""Scope: which names of a half-written query can still bind to the schema.

The promise, for text that the grammar of the dialect derives (docs/dialect.md), with SQLite's own prepare as the judge:

- Sound. A text that the tracker takes as complete prepares.
- Complete. Every prefix of a query that prepares is accepted, less the rules below that are stricter on purpose.
- Early. A prefix is refused as soon as no completion can bind. For an unfinished word it is enough that one spelling of
  the schema or the dialect goes on from it; finished names are compared as SQLite does, without regard to case.

A state is a tuple that shares what has not changed with the state before: `advance` costs the piece, not the text.

Stricter than SQLite on purpose:

- A bare name binds in its own block. In SQLite it may stand for a column of a query around it, by accident.
- GROUP BY and ORDER BY of a subquery name its own columns and outputs only: SQLite 3.40 takes no other, 3.54 does.
- Sources are at most six in a block, no two of one name, aliases are T1 to T19; brackets are at most ten deep.
- ON of a LEFT JOIN names nothing to its right, also where SQLite would turn it into an inner join; ON names no output.
- Every CTE, every output and every ORDER BY is checked, also where SQLite drops it unread; a CTE names earlier ones.
- A term of the ORDER BY of a set operation is a number or the name of an output, not an expression equal to one; a term
  of GROUP BY or ORDER BY has no literal before IS, which SQLite would work out and take for the number of a column.
- The columns of a CTE are called by alias or column name, not by the text of an expression; `rowid` is no name.
- No derived tables, no row values, no comments, no `"name"`, no WHERE without FROM, and no other syntax that the dialect
  lacks.

Late, not wrong: where stars of several kinds must give an exact number of columns, and where one alias could be declared in two
blocks that both still wait for their FROM, a dead end may be seen some words after it arose.
"""

from groundql.decoding.scope.tracker import ScopeState, ScopeTracker

__all__ = ["ScopeState", "ScopeTracker"]
