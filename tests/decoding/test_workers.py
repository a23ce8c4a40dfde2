"""Choosers in processes do what they do in one."""

import os
import sys

import pytest

from groundql.decoding.batch import Pace
from groundql.decoding.engine import decode
from groundql.decoding.grounded_row import GroundedRow
from groundql.decoding.workers import WorkerDied, process_crew, usual_processes
from tests.decoding.test_engine import TOKENIZER, TURNS, lively_model, some_prompts
from tests.decoding.test_grounded import BUDGET, ENDS, SETTINGS, constraint_of, together

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


def chooser(place):
    return GroundedRow(constraint_of(place, ENDS), ENDS, BUDGET)


def decoded(make, prompts):
    with process_crew(lambda: make, 2) as crew:
        found = decode(
            lively_model("qwen2"),
            TOKENIZER,
            prompts,
            TURNS,
            settings=SETTINGS,
            crew=crew,
            pace=Pace(lookahead=1),
        )
    return [one for (one,) in found]


def test_two_processes_write_what_one_writes():
    prompts = some_prompts(8)
    alone = together(lively_model("qwen2"), prompts, Pace())
    for one, plain in zip(decoded(chooser, prompts), alone, strict=True):
        assert (one.ids, one.status, one.reason, one.sql) == (
            plain.ids,
            plain.status,
            plain.reason,
            plain.sql,
        )


def test_a_fault_in_a_process_is_raised_here_with_its_place():
    def faulty(place):
        raise KeyError("no such schema")

    with pytest.raises(WorkerDied, match="no such schema"):
        decoded(faulty, some_prompts(2))


def test_a_process_that_ends_is_told():
    def deadly(place):
        os._exit(3)

    with pytest.raises(WorkerDied, match="ended"):
        decoded(deadly, some_prompts(2))


def test_no_process_is_used_where_the_model_needs_the_cores():
    assert usual_processes("cpu") == 0
