"""The learning rate under training.max_minutes falls with the clock."""

from types import SimpleNamespace

import pytest
import torch

from groundql.training.time_limit import CoolsByTheClock


def rates(scheduled, times, limit_s=100.0, peak=1.0):
    """The rate that each step is taken at, where step i begins at `times[i]` under the rate `scheduled[i]`."""
    clock = iter([0.0, 0.0, *times])
    callback = CoolsByTheClock(limit_s, lambda: next(clock))
    callback.on_train_begin(None, None, None)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    used = []
    for rate in scheduled:
        optimizer.param_groups[0]["lr"] = rate
        callback.on_pre_optimizer_step(SimpleNamespace(learning_rate=peak), None, None, optimizer=optimizer)
        used.append(optimizer.param_groups[0]["lr"])
    return callback, used


def test_a_fast_machine_keeps_its_schedule():
    _, used = rates([0.5, 1.0, 0.5, 0.0], [1, 2, 3, 4])
    assert used == [0.5, 0.98, 0.5, 0.0]  # at 2 of 100 s, 98 % of the highest is the most


def test_a_slow_machine_is_cold_when_its_time_is_over():
    _, used = rates([1.0, 0.9, 0.8, 0.7], [0, 50, 100, 130])
    assert used == [1.0, 0.5, 0.0, 0.0]


def test_the_log_shows_the_rate_that_was_used():
    callback, used = rates([0.9], [75])
    logs = {"loss": 2.0, "learning_rate": 0.8}
    callback.on_log(None, None, None, logs=logs)
    assert logs == {"loss": 2.0, "learning_rate": pytest.approx(0.25)}
    assert used == [0.25]
    without = {"eval_loss": 1.0}
    callback.on_log(None, None, None, logs=without)
    assert without == {"eval_loss": 1.0}
