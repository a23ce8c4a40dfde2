"""Training by steps: what it leaves, how it resumes, and what never reaches the weights."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from groundql.config import Config, GenerationSettings, LoraSettings
from groundql.decoding.engine import decode
from groundql.errors import SettingError, TrainingStopped
from groundql.records import Prompt
from groundql.training.fused import head
from groundql.training.trainer import SqlTrainer, add_lora, train_adapter
from tests.command import groundql
from tests.mostly_slow import first_fast
from tests.small_data import write_config
from tests.tiny import save_tiny, tiny_model
from tests.training.test_examples import encoded

EXAMPLES, TURNS, TOKENIZER = encoded("chat")
N_PACKS = 4  # of 8 examples, as `settings` packs them
PAD = TOKENIZER.pad_token_id


class Killed(Exception):
    """Stands for the process being killed."""


def settings(dropout=0.1, **training):
    """A config that only the trainer reads: two questions a pack, and dropout, so that chance matters.

    Without dropout, packs go through the fused step.
    """
    return Config.model_validate(
        {
            "model": {"name": "tiny"},
            "data": {"train": "-", "dev": "-"},
            "lora": {"rank": 2, "alpha": 4, "dropout": dropout},
            "training": {
                "epochs": 2,
                "pack_tokens": 170,
                "group_size": 2,
                "learning_rate": 0.01,
                "logging_steps": 1,
                "select_by": "last",
                **training,
            },
        }
    )


def train(
    run_dir, *, examples=EXAMPLES, dev=(), model=None, score_dev=None, on_step=None, resume=False, **training
):
    """The trained model and the result."""
    config = settings(**training)
    run_dir.mkdir(exist_ok=True)
    model = model or with_lora(seed=config.training.seed, dropout=config.lora.dropout)
    result = train_adapter(
        model,
        examples,
        list(dev),
        config=config,
        run_dir=run_dir,
        pad_id=PAD,
        score_dev=score_dev,
        on_step=on_step,
        resume=resume,
    )
    return model, result


def with_lora(seed=7, **changed):
    lora = LoraSettings.model_validate({"rank": 2, "alpha": 4, "dropout": 0.1, **changed})
    return add_lora(tiny_model("llama"), lora, seed=seed)


def adapter(model):
    return {name: weight.detach().clone() for name, weight in get_peft_model_state_dict(model).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log(run_dir):
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def kill_at(step):
    def on_step(now, _, loss):
        if now == step and loss is None:  # the step is done, not yet logged nor saved
            raise Killed

    return on_step


def test_only_lora_weights_are_trainable_and_they_are_fp32():
    model = add_lora(tiny_model("llama").to(torch.bfloat16), LoraSettings(), seed=1)
    trainable = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trainable)
    assert set(trainable.values()) == {torch.float32}
    assert len(trainable) == 2 * 7 * 2  # A and B of the linears of two layers


def test_the_seed_alone_decides_the_fresh_weights():
    torch.manual_seed(1)
    first = adapter(with_lora(seed=3))
    torch.manual_seed(2)
    assert same(adapter(with_lora(seed=3)), first)
    assert not same(adapter(with_lora(seed=4)), first)


def test_named_targets_get_lora_and_a_name_that_the_model_lacks_is_refused():
    model = with_lora(targets=("q_proj", "v_proj"))
    assert {name.split(".")[-3] for name in adapter(model)} == {"q_proj", "v_proj"}
    with pytest.raises(
        SettingError, match=r"lora.targets: this model has no Wqkv; it has down_proj, .*q_proj"
    ):
        with_lora(targets=("q_proj", "Wqkv"))


def test_the_same_seed_trains_the_same_adapter_and_the_loss_falls(tmp_path):
    first, result = train(tmp_path / "a", epochs=6)
    second, _ = train(tmp_path / "b", epochs=6)
    assert same(adapter(first), adapter(second))
    assert log(tmp_path / "a") == log(tmp_path / "b")
    losses = [line["loss"] for line in log(tmp_path / "a")]
    assert sum(losses[-N_PACKS:]) < sum(losses[:N_PACKS])
    assert (result.n_steps, result.n_dropped_steps, result.best_step) == (6 * N_PACKS, 0, 6 * N_PACKS)
    assert list((tmp_path / "a" / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("training", "killed_at", "resumes_from"),
    first_fast(
        [
            ({"save_steps": 3}, 4, 3),  # from inside an epoch
            ({}, 6, 4),  # from the checkpoint of the first epoch
            ({"save_steps": 3, "packing": "none", "batch_size": 2}, 4, 3),
            ({"save_steps": 1, "accumulation": 2, "epochs": 4}, 4, 3),  # inside an epoch of two steps
            ({}, 3, None),  # before there was a checkpoint
        ]
    ),
)
def test_a_killed_run_resumes_and_ends_as_if_it_had_not_been(tmp_path, training, killed_at, resumes_from):
    whole, expected = train(tmp_path / "whole", dev=EXAMPLES[:2], **training)
    with pytest.raises(Killed):
        train(tmp_path / "killed", dev=EXAMPLES[:2], on_step=kill_at(killed_at), **training)
    saved = sorted(p.name for p in (tmp_path / "killed" / "checkpoints").glob("*"))
    assert saved[-1:] == ([f"checkpoint-{resumes_from}"] if resumes_from else [])
    torch.manual_seed(99)  # a new process would not have this one's state of chance
    resumed, result = train(tmp_path / "killed", dev=EXAMPLES[:2], resume=True, **training)
    assert same(adapter(resumed), adapter(whole))
    assert log(tmp_path / "killed") == log(tmp_path / "whole")
    assert (result.n_steps, result.best_step) == (expected.n_steps, expected.best_step)


def test_resuming_after_the_last_step_only_finishes(tmp_path):
    whole, _ = train(tmp_path / "run")
    before = log(tmp_path / "run")
    resumed, result = train(tmp_path / "run", resume=True)
    assert same(adapter(resumed), adapter(whole))
    assert log(tmp_path / "run") == before
    assert result.n_steps == 2 * N_PACKS


def test_checkpoints_stand_at_every_epochs_end_and_at_save_steps_between(tmp_path):
    train(tmp_path / "run", epochs=1, save_steps=3)
    found = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert found == {"checkpoint-3", f"checkpoint-{N_PACKS}"}


@pytest.mark.slow
def test_a_process_killed_with_signal_9_resumes_to_the_same_adapter(tmp_path):
    config = write_config(tmp_path, save_tiny(tmp_path / "m", "llama"), epochs=30, save_steps=1)
    assert groundql("train", config, "--out", tmp_path / "whole").status == 0
    start = "from groundql.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", start, "train", str(config), "--out", str(tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in this process: threads change the order of sums
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    waited_until = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("checkpoints/*/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < waited_until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "adapter").exists()
    assert groundql("train", "--resume", tmp_path / "killed").status == 0
    weights = [
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "killed")
    ]
    assert same(*weights)
    assert log(tmp_path / "killed") == log(tmp_path / "whole")


# Non-finite gradients


def poison(model, at_steps, number=math.nan):
    """Make one gradient element not finite at these steps; returns what must be told of each step."""
    done = [0]
    weight = next(p for name, p in model.named_parameters() if "lora_B" in name)

    def spoil(gradient):
        spoilt = gradient.clone()
        if done[0] + 1 in at_steps:
            spoilt[0, 0] = number
        return spoilt

    weight.register_hook(spoil)

    def on_step(now, *_):
        done[0] = now

    return on_step


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_is_counted(tmp_path, number):
    model = with_lora()
    count, seen = poison(model, {3, 5}, number), {}

    def on_step(now, n_steps, loss):
        count(now)
        seen[now] = adapter(model)

    _, result = train(tmp_path / "run", model=model, on_step=on_step, weight_decay=0.1)
    changed = [step for step in range(2, 2 * N_PACKS + 1) if not same(seen[step], seen[step - 1])]
    assert changed == [2, 4, 6, 7, 8]
    assert all(weight.isfinite().all() for weight in adapter(model).values())
    assert result.n_dropped_steps == 2
    assert [line["step"] for line in log(tmp_path / "run") if "dropped" in line] == [3, 5]


def test_an_example_that_makes_the_loss_nan_costs_its_own_steps_only(tmp_path):
    model = with_lora()
    poisoned = 599  # a token that no example has otherwise
    assert all(poisoned not in (*e.prefix, *e.suffix, *e.answer) for e in EXAMPLES)
    with torch.no_grad():
        model.get_input_embeddings().weight[poisoned] = math.nan
    bad = type(EXAMPLES[0])(
        "bad", "other", (poisoned, *EXAMPLES[0].prefix), EXAMPLES[0].suffix, EXAMPLES[0].answer
    )
    _, result = train(tmp_path / "run", examples=[*EXAMPLES, bad], model=model, packing="none")
    assert result.n_steps == 2 * 9  # a row each
    assert result.n_dropped_steps == 2
    assert all(weight.isfinite().all() for weight in adapter(model).values())
    assert all(math.isfinite(line["loss"]) for line in log(tmp_path / "run") if "loss" in line)


def test_five_in_a_row_stop_the_run_and_a_good_one_between_begins_the_count_again(tmp_path):
    model = with_lora()
    on_step = poison(model, {1, 2, 3, 4, 6, 7, 8, 9})
    assert train(tmp_path / "ends", model=model, on_step=on_step, epochs=3)[1].n_dropped_steps == 8

    model = with_lora()
    on_step = poison(model, {3, 4, 5, 6, 7})
    with pytest.raises(
        TrainingStopped, match=r"not finite 5 steps in a row \(step 7\); lower training.learning_rate"
    ):
        train(tmp_path / "stops", model=model, on_step=on_step, epochs=3)


def test_dropped_steps_before_a_kill_are_still_counted_after_it(tmp_path):
    model = with_lora()
    count, kill = poison(model, {2}), kill_at(6)

    def on_step(*now):
        count(*now)
        kill(*now)

    with pytest.raises(Killed):
        train(tmp_path / "run", model=model, on_step=on_step)
    assert train(tmp_path / "run", resume=True)[1].n_dropped_steps == 1


# Which checkpoint is kept


def scripted(scores):
    """Scores of one epoch after the other."""
    left = list(scores)
    return lambda _: dict(zip(("grounded", "ex_strict"), left.pop(0), strict=True))


@pytest.mark.parametrize(
    ("select_by", "best_epoch"),
    first_fast([("ex_strict", 1), ("grounded", 2), ("last", 5)]),
)
def test_the_checkpoint_with_the_best_dev_score_is_kept(tmp_path, select_by, best_epoch):
    model, at_step = with_lora(), {}
    _, result = train(
        tmp_path / "run",
        model=model,
        epochs=5,
        select_by=select_by,
        score_dev=scripted(
            [(0.1, 0.9), (0.8, 0.2), (0.3, 0.9), (0.8, 0.2), (0.0, 0.0)]
        ),  # a tie: the first one
        on_step=lambda now, *_: at_step.update({now: adapter(model)}),
    )
    assert result.best_step == best_epoch * N_PACKS
    assert same(adapter(model), at_step[best_epoch * N_PACKS])
    scores = [
        (line["eval_grounded"], line["eval_ex_strict"])
        for line in log(tmp_path / "run")
        if "eval_grounded" in line
    ]
    assert scores == [(0.1, 0.9), (0.8, 0.2), (0.3, 0.9), (0.8, 0.2), (0.0, 0.0)]


def test_by_loss_the_checkpoint_with_the_lowest_dev_loss_is_kept(tmp_path):
    model, result = train(tmp_path / "run", dev=EXAMPLES[:3], epochs=3, select_by="loss", learning_rate=0.1)
    by_epoch = [line["eval_loss"] for line in log(tmp_path / "run") if "eval_loss" in line]
    assert result.best_step == N_PACKS * (1 + by_epoch.index(min(by_epoch)))
    assert all(weight.isfinite().all() for weight in adapter(model).values())


@pytest.mark.parametrize("packing", ["shared", "none"])
def test_decoding_dev_between_epochs_changes_nothing_in_training(tmp_path, packing):
    def score(model):
        prompt = Prompt(question_id="0", db_id="d", prefix="CREATE TABLE", suffix="How many?", n_tokens=0)
        decode(model, TOKENIZER, [prompt], TURNS, settings=GenerationSettings(max_new_tokens=3, batch_size=1))
        return {"grounded": 0.0, "ex_strict": 0.0}

    quiet, _ = train(tmp_path / "quiet", packing=packing)
    scored, _ = train(tmp_path / "scored", packing=packing, score_dev=score)
    assert same(adapter(scored), adapter(quiet))


def test_the_time_limit_stops_after_the_step_it_falls_in_and_the_count_says_so(tmp_path):
    _, whole = train(tmp_path / "whole")
    _, cut = train(tmp_path / "cut", max_minutes=1e-9)
    assert (cut.n_steps, cut.n_planned_steps) == (1, 2 * N_PACKS)
    assert whole.n_steps == whole.n_planned_steps == 2 * N_PACKS
    assert cut.trained_tokens == pytest.approx(whole.trained_tokens / whole.n_steps, abs=1)


class LogitRows(TorchDispatchMode):
    """Rows of every tensor as wide as the vocabulary that is made meanwhile; `weight`, the head's, and its views are not."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.found = weight, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            is_tensor = isinstance(one, torch.Tensor) and one.dim() > 1
            if is_tensor and one.shape[-1] == len(self.weight) and one.data_ptr() != self.weight.data_ptr():
                self.found.add(one.shape[:-1].numel())
        return made


@pytest.mark.parametrize("way", [{"dropout": 0.0}, {"dropout": 0.1}, {"packing": "none", "batch_size": 2}])
def test_the_dev_loss_makes_no_more_logits_at_once_than_a_training_step(tmp_path, monkeypatch, way):
    model = with_lora(dropout=way.get("dropout", 0.1))
    weight = model.get_base_model().lm_head.weight
    monkeypatch.setattr(head, "LOGITS_AT_ONCE", 5 * len(weight))
    watched, dev_loss = LogitRows(weight), SqlTrainer._dev_loss

    def watch(trainer):
        with watched:
            return dev_loss(trainer)

    monkeypatch.setattr(SqlTrainer, "_dev_loss", watch)
    train(tmp_path / "run", model=model, dev=EXAMPLES[:3], epochs=1, select_by="loss", **way)
    assert max(watched.found) == 5
