"""An answer in a terminal or a pipe: SQL, rows as a table, times, and how sure the model was."""

import sys

from rich.box import ASCII, HEAVY_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from groundql.answer import Answer
from groundql.records import Cell, Outcome

PIPE_WIDTH = 100_000  # no cell is folded where a program reads
STRAINED_NATS = 0.7  # the schema took half of the probability of what the model wanted to write


def print_answer(answer: Answer) -> None:
    """SQL and rows on stdout; on stderr why there are none."""
    if answer.sql:
        print(answer.sql)
    if answer.outcome is not None and answer.outcome.status == "ok":
        print_rows(answer.outcome)
        print(f"model {answer.writing_s:.1f} s; {confidence(answer)}")
    sys.stdout.flush()
    if answer.closed_at is not None:
        print(
            "the model did not end this query by itself: its end was forced, and it may mean something else",
            file=sys.stderr,
        )
    if answer.reason:
        print(refusal(answer), file=sys.stderr)


def refusal(answer: Answer) -> str:
    """Why there are no rows, in one sentence."""
    if answer.status in ("abstained", "no_query", "does_not_bind"):
        return f"I can't answer that from this schema: {answer.reason}"
    return f"no rows: {answer.reason}"


def confidence(answer: Answer) -> str:
    """Strain and votes in words; neither is a probability that the answer is right."""
    parts = []
    if answer.n_agreeing is not None:
        parts.append(f"{answer.n_agreeing} of {answer.n_samples} texts agree on this result")
    if answer.strain is not None:
        pull = "much: read the SQL before you believe it" if answer.strain.total > STRAINED_NATS else "little"
        parts.append(f"strain {answer.strain.total:.2f}: the schema held the model back {pull}")
    return "; ".join(parts) or "written free: nothing held it to the schema"


def print_rows(outcome: Outcome) -> None:
    """The rows as a table, plain in a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH, no_color=True, highlight=False)
    table = Table(
        *(Column(Text(shown_cell(name))) for name in outcome.columns),
        box=HEAVY_HEAD if console.is_terminal else ASCII,
    )
    for row in outcome.rows:
        table.add_row(
            *(Text("NULL", style="dim") if cell is None else Text(shown_cell(cell)) for cell in row)
        )
    console.print(table)
    n = len(outcome.rows)
    print(f"{n} row{'' if n == 1 else 's'} in {outcome.elapsed_s * 1000:.0f} ms")


def shown_cell(cell: Cell) -> str:
    """The cell as text in which nothing steers a terminal: control characters are written out."""
    text = cell.hex() if isinstance(cell, bytes) else str(cell)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
