"""The crew that holds each row to the schema of its question, here or in processes. No torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from groundql.decoding.constraint import Constraints, Vocabulary
from groundql.decoding.crew import Crew, LocalCrew, MakeChooser
from groundql.decoding.gate import Binds, Gate
from groundql.decoding.grounded_row import GroundedRow
from groundql.decoding.workers import process_crew
from groundql.records import Schema


@contextmanager
def grounded_crew(
    vocabulary: Vocabulary,
    schemas: Sequence[Schema],
    *,
    samples: int,
    limit: int,
    n_processes: int,
    closes: bool = True,
    engines: Sequence[Binds | None] = (),
) -> Iterator[Crew]:
    """Choosers for rows by place: row i is a text for a question on `schemas[i // samples]`.

    `limit`: tokens of a text, the end token among them. `closes`: texts that do not end by themselves are closed.
    `n_processes`: 0 for none beside this one. `engines`: for each schema what another engine than SQLite says of a
    query, or None; it is asked in those processes.
    """
    gates = [Gate(schema, binds) if binds else None for schema, binds in zip(schemas, engines, strict=False)]
    compiled: dict[
        int, Constraints
    ] = {}  # by the schema's id: its fingerprint takes longer than a row's start

    def constraints_of(schema: Schema) -> Constraints:
        if id(schema) not in compiled:
            compiled[id(schema)] = vocabulary.constraints(schema)
        return compiled[id(schema)]

    def make(place: int) -> GroundedRow:
        constraints = constraints_of(schemas[place // samples])
        gate = gates[place // samples] if gates else None
        if gate is not None:
            constraints = constraints.gated(gate)
        return GroundedRow(constraints.start(), vocabulary.ends, limit, closes=closes)

    def prepare() -> MakeChooser:
        for schema in schemas:
            constraints_of(schema)
        return make

    if not n_processes:
        yield LocalCrew(make)
        return
    with process_crew(prepare, min(n_processes, len(schemas) * samples)) as crew:
        yield crew


def vocabulary_of(tokenizer: Any, ends: frozenset[int], n_logits: int) -> Vocabulary:
    """The vocabulary of `tokenizer`, made once for each and kept with its compiled schemas."""
    key = (id(tokenizer), ends, n_logits)
    if key not in _kept:
        _kept[key] = tokenizer, Vocabulary(tokenizer, ends, n_logits=n_logits)
    return _kept[key][1]


# The tokenizer is kept, so that its id stays its own. Making one takes most of a second at 151,000 tokens.
_kept: dict[tuple[int, frozenset[int], int], tuple[Any, Vocabulary]] = {}
