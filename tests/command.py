"""The groundql command in this process: importing torch again for every call would take seconds."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

import pytest

from groundql.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def groundql(*arguments: object) -> Ended:
    """Run `groundql ARGUMENTS` through its own `main`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["groundql", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    return Ended(int(left.value.code or 0), out.getvalue(), err.getvalue())
