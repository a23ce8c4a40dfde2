"""Kills a training for real: in a forked process, by signal 9, at a chosen point."""

import os
import signal
import warnings
from collections.abc import Callable


def kill_this_process() -> None:
    """What `kill -9` does: no handler, no clean-up, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(work: Callable[[], object]) -> None:
    """Run `work` in a forked process that is expected to be killed by signal 9 before it ends."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of fork with threads: the child uses none of them
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(99)  # it was not killed
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"ended by itself, with {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL
