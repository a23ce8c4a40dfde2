"""The `groundql` command: one file a verb; each parses, calls, prints and exits."""

import os
import sys
from typing import NoReturn

import typer

from groundql import __version__
from groundql.errors import GroundqlError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune small language models to write SQL that binds to a real schema; judge and use them.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"groundql {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options that come before the verb."""


def main() -> NoReturn:
    """Run the command: 0 done, 1 the work failed, 2 asked wrongly; one clear sentence on stderr where it failed."""
    try:
        from groundql.cli import verbs  # noqa: F401  registers them; within, since Ctrl-C may come while it reads

        app()
    except GroundqlError as error:
        fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        fail("interrupted", 1)
    except SystemExit as left:
        if left.code == 130:  # how typer ends on Ctrl-C within a verb, without a word
            fail("interrupted", 1)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    sys.exit(0)


def fail(message: str, exit_status: int) -> NoReturn:
    """Say why on stderr and leave."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_status)
