"""A session of questions on one database, with history; questions of a person who sits at a terminal."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from groundql.cli.answers import print_answer, print_rows
from groundql.errors import GroundqlError

if TYPE_CHECKING:
    from groundql.answer import Assistant, OpenDatabase

HELP = """A line is a question. These begin with a backslash:
  \\schema       tables and their columns
  \\sql QUERY    run a query of your own, read-only
  \\help         this
  \\q            leave, as Ctrl-D does; Ctrl-C gives up the question that runs"""
MAX_HISTORY = 1000


def run_session(
    assistant: "Assistant", database: "OpenDatabase", *, evidence: str = "", deadline_s: float, max_rows: int
) -> None:
    """Questions until the person leaves, all with the same evidence; what goes wrong with one leaves the others."""
    schema = database.schema
    print(f"{database.db_id}: {len(schema.tables)} tables, {database.dialect}, read-only; \\help for help")
    with _history():
        while True:
            try:
                line = input("? ").strip()
                if line in ("\\q", "\\quit", "exit", "quit"):
                    return
                if line:
                    _act(assistant, database, line, evidence, deadline_s, max_rows)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print("\ninterrupted; \\q leaves")
            except GroundqlError as error:
                print(f"error: {error}")


def _act(
    assistant: "Assistant",
    database: "OpenDatabase",
    line: str,
    evidence: str,
    deadline_s: float,
    max_rows: int,
) -> None:
    command, _, rest = line.partition(" ")
    if command == "\\schema":
        for table in database.schema.tables:
            print(f"{table.name}: {', '.join(column.name for column in table.columns)}")
    elif command == "\\sql":
        outcome = database.run(rest, deadline_s=deadline_s, max_rows=max_rows)
        if outcome.status == "ok":
            print_rows(outcome)
        else:
            print(f"{outcome.status}: {outcome.error}")
    elif command.startswith("\\"):
        print(HELP)
    else:
        answer = assistant.ask(database, line, evidence=evidence, deadline_s=deadline_s, max_rows=max_rows)
        print_answer(answer)


def history_path() -> Path:
    """Where questions of sessions are kept, for the arrow keys: $XDG_STATE_HOME/groundql/history."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "groundql" / "history"


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Arrow keys and a history that the next session has, where readline is there and the file can be written."""
    try:
        import readline
    except ImportError:  # a Python without it
        yield
        return
    path = history_path()
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(MAX_HISTORY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.write_history_file(path)
            path.chmod(0o600)
