"""Two processes that train together over gloo: the same steps as one, one run folder, no deadlock."""

import pytest
import torch
from peft import get_peft_model_state_dict

from groundql.config import LoraSettings, ModelSettings
from groundql.errors import AskedWrongly, SettingError, TrainingStopped
from groundql.models.load import load_base
from groundql.models.source import find_base
from groundql.training import processes, sharding
from groundql.training.exact import Blank, Rows, SeededOrder, collate_rows
from groundql.training.packs import IGNORE
from groundql.training.processes import StoppedElsewhere
from groundql.training.trainer import add_lora
from tests.tiny import save_tiny
from tests.training.killed import kill_this_process
from tests.training.several import in_processes
from tests.training.test_trainer import EXAMPLES, adapter, log, same, train, with_lora

EVEN = {"epochs": 2, "learning_rate": 0.003, "dropout": 0.0}


def recorded(run_dir, **options):
    """The trained weights, the gradients of every step as the optimizer saw them, and the result."""
    model = with_lora(dropout=0.0)
    steps = []
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    step = torch.optim.AdamW.step

    def seen(self, *arguments, **named):
        steps.append({name: p.grad.clone() for name, p in trainable.items() if p.grad is not None})
        return step(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", seen)
        _, result = train(run_dir, model=model, **options)
    assert (model.label_loss_through is not None) == (
        options.get("packing") != "none"
    )  # packs: the fused step
    return adapter(model), steps, result


@pytest.mark.parametrize(
    ("recipe", "n_examples"),
    [
        ({}, 8),  # 4 packs: two each; through the fused step
        ({"pack_tokens": 100}, 7),  # 7 packs: one process has a blank
        pytest.param({"packing": "none", "batch_size": 2}, 7, marks=pytest.mark.slow),
    ],
)
def test_two_processes_take_the_steps_of_one_with_the_same_packs(tmp_path, recipe, n_examples):
    examples = EXAMPLES[:n_examples]
    weights, steps, expected = recorded(
        tmp_path / "one", examples=examples, dev=EXAMPLES[:2], accumulation=2, **EVEN, **recipe
    )
    first, second = in_processes(
        2,
        lambda rank: recorded(tmp_path / "two", examples=examples, dev=EXAMPLES[:2], **EVEN, **recipe),
        tmp_path / "found",
    )
    assert same(first[0], second[0])
    assert len(first[1]) == len(steps) == expected.n_steps
    for ours, theirs in zip(first[1], steps, strict=True):
        largest = max(float(g.abs().max()) for g in theirs.values())
        for name, gradient in theirs.items():
            assert torch.allclose(ours[name], gradient, rtol=1e-5, atol=1e-5 * largest), name
    for name, weight in weights.items():
        assert torch.allclose(first[0][name], weight, rtol=1e-4, atol=1e-5), name
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    for line in (*one, *two):
        del line["epoch"]  # inside an epoch of an odd number of packs its fraction differs
    assert [sorted(line) for line in one] == [sorted(line) for line in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert first[2].trained_tokens == expected.trained_tokens


@pytest.mark.slow
def test_two_processes_killed_by_signal_9_resume_to_the_same_bits(tmp_path):
    recipe = {"epochs": 4, "save_steps": 1, "logging_steps": 2, "dev": EXAMPLES[:2], "dropout": 0.0}
    work = lambda name, **more: lambda rank: adapter(train(tmp_path / name, **recipe, **more)[0])  # noqa: E731
    whole, _ = in_processes(2, work("whole"), tmp_path / "found")

    def kill(step, _, loss):
        if step == 5 and loss is None:
            kill_this_process()

    def killed(rank):
        train(tmp_path / "killed", **recipe, on_step=kill)

    found = in_processes(2, killed, tmp_path / "found")
    assert found[0] is None  # killed; the other one lost it
    resumed = in_processes(2, work("killed", resume=True), tmp_path / "found")
    assert same(resumed[0], whole)
    assert same(resumed[1], whole)
    assert log(tmp_path / "killed") == log(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_base_in_parts_trains_the_same_adapter_bit_for_bit(tmp_path, quantization):
    if quantization == "nf4" and not sharding.splits_integers():
        pytest.skip(f"torch {torch.__version__} splits no integers")
    base = save_tiny(tmp_path / "m", "llama")

    def work(rank, **training):
        settings = ModelSettings(name=str(base), quantization=quantization, compute_dtype="float32")
        model = load_base(find_base(str(base)), settings, device=torch.device("cpu"))
        model = add_lora(model, LoraSettings(rank=2, alpha=4), seed=7)
        asked = []

        def score(model):
            with torch.no_grad():
                asked.append(float(model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum()))
            return {"grounded": 0.0, "ex_strict": 0.0}

        train(tmp_path / str(training), model=model, dev=EXAMPLES[:2], score_dev=score, **training)
        held = sum(
            getattr(p, "_local_tensor", p).numel()
            for name, p in model.named_parameters()
            if "proj.base_layer" in name
        )
        return adapter(model), held, asked

    whole, _ = in_processes(2, lambda rank: work(rank, checkpointing=True), tmp_path / "found")
    first, second = in_processes(
        2, lambda rank: work(rank, checkpointing=True, shard_base=True), tmp_path / "found"
    )
    assert not isinstance(first, Exception), str(first)
    assert same(first[0], whole[0])
    assert same(second[0], whole[0])
    assert first[1] == second[1] == whole[1] / 2
    assert first[2] == second[2]  # all take part in what the first is asked
    assert first[2] == pytest.approx(whole[2], abs=1e-4)


def test_4_bit_parts_are_refused_where_torch_cannot_split_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "INTEGERS_SINCE", (99, 0))
    base = find_base(str(save_tiny(tmp_path / "m", "llama")))

    def work(rank):
        device = torch.device("cpu")
        model = load_base(base, ModelSettings(name="m", compute_dtype="float32"), device=device)
        sharding.shard_base(add_lora(model, LoraSettings(rank=2), seed=7), device)

    for error in in_processes(2, work, tmp_path / "found"):
        assert isinstance(error, SettingError)
        assert "training.shard_base with 4-bit weights needs torch" in str(error)


def test_dev_is_scored_by_the_first_and_chooses_the_checkpoint_of_both(tmp_path):
    scores = iter([(0.9, 0.9), (0.1, 0.1), (0.5, 0.5)])

    def work(rank):
        asked = []

        def score(model):
            asked.append(rank)
            return dict(zip(("grounded", "ex_strict"), next(scores), strict=True))

        model, result = train(tmp_path / "run", epochs=3, select_by="ex_strict", score_dev=score)
        return asked, result.best_step, adapter(model)

    (asked, best, weights), (asked_too, best_too, weights_too) = in_processes(2, work, tmp_path / "found")
    assert (asked, asked_too) == ([0, 0, 0], [])
    assert best == best_too == 2  # the first epoch: two steps of two packs
    assert same(weights, weights_too)
    lines = [line["eval_ex_strict"] for line in log(tmp_path / "run") if "eval_ex_strict" in line]
    assert lines == [0.9, 0.1, 0.5]


def test_the_time_limit_of_one_process_stops_both_after_the_same_step(tmp_path):
    def work(rank):
        return train(tmp_path / "run", max_minutes=1e-9 if rank == 1 else 60)[1].n_steps

    assert in_processes(2, work, tmp_path / "found") == [1, 1]


def test_a_loss_that_is_not_finite_in_one_process_drops_the_step_in_both(tmp_path):
    def work(rank):
        model = with_lora(dropout=0.0)
        if rank == 1:
            with torch.no_grad():  # the frozen weights of one process are broken
                model.get_input_embeddings().weight.fill_(float("nan"))
        before = adapter(model)
        _, result = train(tmp_path / "run", model=model, epochs=1)
        return result.n_dropped_steps, same(adapter(model), before)

    assert in_processes(2, work, tmp_path / "found") == [(2, True), (2, True)]
    assert [line["step"] for line in log(tmp_path / "run") if "dropped" in line] == [1, 2]


def test_what_fails_in_the_first_process_ends_the_others_without_waiting(tmp_path):
    def work(rank):
        def fail():
            raise AskedWrongly("no such file")

        processes.from_first(fail)

    first, second = in_processes(2, work, tmp_path / "found")
    assert (type(first), str(first)) == (AskedWrongly, "no such file")
    assert (type(second), str(second)) == (StoppedElsewhere, "stopped because the first process did")


def test_a_failure_in_the_second_process_ends_the_first_in_its_next_sum(tmp_path):
    def work(rank):
        def on_forward(*_):
            if rank == 1:
                raise TrainingStopped("the card's memory ran out")

        model = with_lora(dropout=0.0)
        model.get_base_model().register_forward_pre_hook(on_forward)
        model.get_base_model().model.layers[0].register_forward_pre_hook(on_forward)
        train(tmp_path / "run", model=model)

    first, second = in_processes(2, work, tmp_path / "found")
    assert str(second) == "the card's memory ran out"
    assert isinstance(first, RuntimeError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        assert processes.is_lost_connection(first), str(first)


def test_every_row_comes_once_an_epoch_and_blanks_fill_the_end():
    order = SeededOrder(7, 4, seed=3)
    assert len(order) == 8
    first = list(order)
    assert sorted(first[:7]) == list(range(7))
    assert first[7:] == [7]
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first
    assert sorted(SeededOrder(7, 1, seed=3)) == list(range(7))


def test_a_blank_row_keeps_its_tokens_and_loses_its_labels():
    rows = Rows(EXAMPLES[:3])
    blank = rows[3]
    assert isinstance(blank, Blank)
    assert blank.row.n_tokens == min(e.n_tokens for e in EXAMPLES[:3])
    collate = lambda some: {"labels": torch.tensor([list(e.answer[:2]) for e in some])}  # noqa: E731
    labels = collate_rows([rows[0], blank], collate)["labels"]
    assert labels[0].tolist() == list(EXAMPLES[0].answer[:2])
    assert labels[1].tolist() == [IGNORE, IGNORE]


def test_alone_nothing_waits_and_nothing_is_named(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    processes.join()
    processes.wait()
    processes.leave()
    assert processes.from_first(lambda: 3) == 3
    assert processes.named("gone") == "gone"
    assert processes.is_first()
    assert not torch.distributed.is_initialized()
    assert get_peft_model_state_dict(with_lora())
