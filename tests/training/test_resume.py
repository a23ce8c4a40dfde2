"""A run that is killed by signal 9 at any step and resumed ends as if it had not been: adapter, scores and log, bit for bit."""

import itertools

import pytest
import torch
from transformers import Trainer, TrainerState

from groundql.training.trainer import train_adapter
from tests.mostly_slow import first_fast
from tests.training.killed import kill_this_process, run_until_killed
from tests.training.test_trainer import EXAMPLES, N_PACKS, PAD, adapter, log, same, settings, train, with_lora

AWKWARD = {
    "epochs": 2,
    "accumulation": 2,
    "save_steps": 1,
    "logging_steps": 3,  # log lines that fall between checkpoints: a resumed run has to know what came before
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the awkward recipe leaves where nothing interrupts it."""
    return uninterrupted(tmp_path_factory.mktemp("whole"), **AWKWARD)


def uninterrupted(run_dir, **training):
    model, result = train(run_dir, dev=EXAMPLES[:2], **training)
    return adapter(model), result, log(run_dir)


def assert_ends_the_same(run_dir, whole, **training):
    weights, expected, lines = whole
    torch.manual_seed(99)  # a new process would not have this one's state of chance
    resumed, result = train(run_dir, dev=EXAMPLES[:2], resume=True, **training)
    assert same(adapter(resumed), weights)
    assert log(run_dir) == lines
    assert (result.n_steps, result.best_step) == (expected.n_steps, expected.best_step)


def kill_when_done(step):
    """The step is done, neither logged nor saved yet."""

    def on_step(now, _, loss):
        if now == step and loss is None:
            kill_this_process()

    return on_step


@pytest.mark.parametrize("step", first_fast(range(1, 2 * N_PACKS // AWKWARD["accumulation"] + 1)))
def test_killed_after_any_step_with_accumulation_dropout_and_sparse_logging(tmp_path, whole, step):
    run_until_killed(
        lambda: train(tmp_path / "run", dev=EXAMPLES[:2], on_step=kill_when_done(step), **AWKWARD)
    )
    assert_ends_the_same(tmp_path / "run", whole, **AWKWARD)


@pytest.mark.parametrize("n_whole", first_fast([1, 0, 2]))
def test_killed_while_a_checkpoint_is_written_goes_on_from_the_one_before(
    tmp_path, whole, monkeypatch, n_whole
):
    saves = itertools.count()
    save = TrainerState.save_to_json

    def killed(self, path):
        if next(saves) == n_whole:
            with open(path, "w") as file:  # noqa: PTH123
                file.write('{"best_metric": nu')
                file.flush()
                kill_this_process()
        save(self, path)

    def work():
        monkeypatch.setattr(TrainerState, "save_to_json", killed)
        train(tmp_path / "run", dev=EXAMPLES[:2], **AWKWARD)

    run_until_killed(work)
    assert_ends_the_same(tmp_path / "run", whole, **AWKWARD)


@pytest.mark.slow
def test_killed_again_and_again_it_still_ends_the_same(tmp_path, whole):
    for i, step in enumerate((1, 3, 3, 4)):
        run_until_killed(
            lambda i=i, step=step: train(
                tmp_path / "run", dev=EXAMPLES[:2], resume=i > 0, on_step=kill_when_done(step), **AWKWARD
            )
        )
    assert_ends_the_same(tmp_path / "run", whole, **AWKWARD)


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        {"epochs": 2, "save_steps": 2, "logging_steps": 5, "dropout": 0.0},  # the fused step
        {"epochs": 2, "save_steps": 2, "logging_steps": 5},
        {"epochs": 2, "packing": "none", "batch_size": 3, "save_steps": 2, "logging_steps": 2},
        {"epochs": 3, "accumulation": 3, "save_steps": 1, "logging_steps": 4},  # 4 packs: a short last step
        {"epochs": 1.5, "save_steps": 2, "logging_steps": 4},
        {"epochs": 3, "select_by": "loss", "learning_rate": 0.1},
    ],
)
def test_killed_after_every_single_step_of_other_recipes(tmp_path, training):
    whole = uninterrupted(tmp_path / "whole", **training)
    for step in range(1, whole[1].n_steps + 1):
        run_dir = tmp_path / str(step)
        run_until_killed(
            lambda run_dir=run_dir, step=step: train(
                run_dir, dev=EXAMPLES[:2], on_step=kill_when_done(step), **training
            )
        )
        assert_ends_the_same(run_dir, whole, **training)


def test_a_loss_that_is_not_finite_is_dropped_and_told_even_where_the_gradient_is(tmp_path, monkeypatch):
    """As where a mask makes one logit infinite: the sum is not a number, its gradient may be one."""
    step = Trainer.training_step
    calls = itertools.count(1)

    def training_step(self, *arguments, **named):
        loss = step(self, *arguments, **named)
        return loss * float("nan") if next(calls) == 3 else loss

    monkeypatch.setattr(Trainer, "training_step", training_step)
    model, seen = with_lora(), {}
    result = train_adapter(
        model,
        EXAMPLES,
        [],
        config=settings(epochs=1),
        run_dir=tmp_path,
        pad_id=PAD,
        on_step=lambda now, *_: seen.update({now: adapter(model)}),
    )
    assert result.n_dropped_steps == 1
    assert [line for line in log(tmp_path) if "dropped" in line] == [
        {"step": 3, "dropped": "the loss is not finite"}
    ]
    assert same(seen[3], seen[2])
    assert not same(seen[4], seen[3])


def test_one_bad_micro_batch_drops_the_whole_accumulated_step(tmp_path, monkeypatch):
    step = Trainer.training_step
    calls = itertools.count(1)

    def training_step(self, *arguments, **named):
        loss = step(self, *arguments, **named)
        return loss * float("inf") if next(calls) == 1 else loss  # the first of the two of step 1

    monkeypatch.setattr(Trainer, "training_step", training_step)
    _, result = train(tmp_path / "run", epochs=1, accumulation=2)
    assert [line["step"] for line in log(tmp_path / "run") if "dropped" in line] == [1]
    assert result.n_steps == N_PACKS // 2
