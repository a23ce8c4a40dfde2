"""The plan of the fused step against what was measured, what its layers really keep, and its own laws."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundql.errors import SettingError
from groundql.models.catalog import CATALOG
from groundql.models.fitting import LARGEST_PACK, with_pack, with_settings
from groundql.models.fused_memory import (
    SMALL_FFN_TOKENS,
    Keeps,
    attention_bytes,
    inner_width,
    is_fused,
    moments,
    smaller_choices,
)
from groundql.models.memory import HEADROOM, fused_parts, plan_of, sum_mib
from groundql.models.shape import read_shape
from groundql.models.source import ModelSource
from groundql.models.workload import QuestionLengths, make_passes
from groundql.training.fused.model import FusedModel, install
from groundql.training.packs import collate_pack, make_packs
from tests.models.test_memory import QWEN, plain_pass, questions_like_bird, some_config
from tests.tiny import ARCHITECTURES, tiny_model
from tests.training.made import some_examples
from tests.training.test_fused import tuned

LENGTHS = questions_like_bird(500)
NOTHING = Keeps(0, 0, SMALL_FFN_TOKENS)

# MiB of torch's max_memory_allocated on one NVIDIA H100: NF4, rank 32 on all linears, 8-bit AdamW, packs of real
# examples of about so many tokens, of which about 0.4 carry loss. The plan says what the allocator reserves: workspace
# and gaps with it.
MEASURED = [
    (2587, "Qwen2.5-Coder-1.5B-Instruct", 8192, Keeps(0, 0, 4096)),
    (4776, "Qwen2.5-Coder-1.5B-Instruct", 8192, Keeps(28, 0, 4096)),
    (2447, "Qwen2.5-Coder-1.5B-Instruct", 8192, Keeps(0, 0, 2048)),
    (3304, "Qwen2.5-Coder-1.5B-Instruct", 16384, Keeps(0, 0, 2048)),
    (4343, "Qwen2.5-Coder-1.5B-Instruct", 2048, Keeps(0, 28, 4096)),
    (2846, "Falcon3-1B-Base", 8192, Keeps(0, 0, 2048)),
    (4104, "StarCoder2-3B", 8192, Keeps(0, 0, 2048)),
]


@pytest.mark.parametrize(("measured_mib", "name", "n_tokens", "keeps"), MEASURED)
def test_the_peak_is_within_10_percent_of_measured_steps(measured_mib, name, n_tokens, keeps):
    one = plain_pass(n_tokens, round(0.4 * n_tokens))
    parts = fused_parts(some_config(optimizer="adamw_8bit"), CATALOG[name], one, keeps)
    assert sum_mib(parts) == pytest.approx(measured_mib, rel=0.10)


def test_what_a_token_keeps_is_counted_by_hand():
    """Qwen 1.5B in 16 bit: the stream 1536; q and its result 1536 each, k and v 256 each; gate and up 8960 each."""
    kept = {
        name: next(moments(some_config(), QWEN, plain_pass(1000, 400), keeps, width=2, state_bytes=2)).kept
        for name, keeps in {"input": Keeps(0, 0, 9), "attention": Keeps(28, 0, 9), "all": Keeps(0, 28, 9)}.items()
    }  # fmt: skip
    of_attention = 2 * (2 * 1536 + 2 * 256 + 1536) + 4 * 12  # and a sum in fp32 for each of 12 heads
    there = 27_000 + 400  # the last layer's FFN is for the tokens that carry loss
    assert kept["input"] == 28_000 * 2 * 1536
    assert kept["attention"] - kept["input"] == 28_000 * (of_attention - 2 * 1536) + there * 2 * 1536
    assert kept["all"] - kept["attention"] == there * 2 * 2 * 8960


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_keep_what_the_plan_counts(architecture, tmp_path):
    model = tuned(tiny_model(architecture))
    model.get_base_model().config.save_pretrained(tmp_path)
    row = read_shape(ModelSource(name="tiny", folder=tmp_path))
    (pack,) = make_packs(some_examples(6), pack_tokens=2000, group_size=9, seed=1)
    for n_attention, n_all in ((0, 0), (1, 1), (0, 2)):
        install(model, FusedModel(model, n_kept=n_all, n_kept_attention=n_attention, ffn_tokens=50))
        batch = {name: value for name, value in collate_pack([pack]).items() if name != "labels"}
        kept = kept_bytes(model(**batch)["loss_sum"])
        sums = 4 * row.n_heads  # of attention: another form where there are no kernels, and not counted here
        of_attention = attention_bytes(row, len(pack), 4) - sums * len(pack)
        of_inner = 4 * len(pack) * inner_width(row)
        inputs = 2 * 4 * len(pack) * row.hidden
        elsewhere = len(pack) - len(batch["logits_to_keep"])  # that the last layer's FFN passes over
        less = 4 * elsewhere * ((row.hidden if n_all else 0) + (inner_width(row) if n_all else 0))
        assert kept == inputs + (n_attention + n_all) * of_attention + n_all * of_inner - less


def kept_bytes(loss):
    """Bytes of what the fused layers hold for their backward, attention's own state aside."""
    waiting, found = [loss.grad_fn], {}
    while waiting:
        node = waiting.pop()
        if node is None or node in found:
            continue
        found[node] = 0
        waiting += [following for following, _ in node.next_functions]
        if type(node).__name__ == "_LayerPassBackward":
            tensors = [*node.saved_tensors]
            if node.kept:
                tensors += [node.kept.qkv, node.kept.attended, node.kept.middle, *node.kept.inner]
            found[node] = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    return sum(found.values())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"batch_size": 2}, False),
        ({"packing": "none"}, False),
        ({"dropout": 0.05}, False),
        ({"shard_base": True}, False),
    ],
)
def test_packs_one_at_a_time_without_dropout_are_fused_and_only_they_have_keeps(changes, expected):
    config = some_config(**changes)
    assert is_fused(config) is expected
    assert (plan_of(config, QWEN, LENGTHS).keeps is not None) is expected


def test_the_parts_at_the_peak_are_its_sum_and_of_the_moments_only_one_counts():
    plan = plan_of(some_config(), QWEN, LENGTHS)
    assert sum(part.mib for part in plan.parts if part.at_peak) == plan.peak_mib
    of_moments = {
        part.name: part.at_peak
        for part in plan.parts
        if part.name.startswith(("loss", "backward", "optimizer step"))
    }
    assert len(of_moments) == 4
    assert sum(of_moments.values()) == 1
    assert plan.total_mib == plan.peak_mib + plan.context_mib


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 80), st.integers(0, 9), st.sampled_from([1024, 4096]), st.sampled_from([None, 3, 6]))
def test_no_pass_of_an_epoch_needs_more_than_the_plan(n, seed, pack_tokens, memory_gib):
    config = some_config(pack_tokens=pack_tokens, memory_gib=memory_gib, seed=seed)
    lengths = questions_like_bird(n, 3, prefix=200, seed=seed)
    plan = plan_of(config, QWEN, lengths)
    for one in make_passes(lengths, config.training):
        parts = fused_parts(config, QWEN, one, plan.keeps, graph=plan.graph)
        assert sum_mib(parts) <= plan.peak_mib * 1.02  # the heaviest is sought among few


# What layers keep


def test_without_a_card_all_is_kept_and_the_pass_is_a_graph():
    plan = plan_of(some_config(), QWEN, LENGTHS)
    assert (plan.keeps.attention, plan.keeps.all, plan.graph) == (0, QWEN.n_layers, True)


def test_a_larger_card_keeps_more_and_whatever_it_keeps_it_fits():
    kept = []
    for gib in (2.5, 3, 4, 5, 6, 8, 12, 16, 24):
        plan = plan_of(some_config(pack_tokens=4096, memory_gib=gib), QWEN, LENGTHS)
        assert plan.fits
        kept.append((plan.keeps.attention + plan.keeps.all, plan.keeps.all, plan.keeps.ffn_tokens))
    assert kept == sorted(kept)  # attention's tensors first: they save most time a byte
    assert kept[0][:2] == (0, 0)
    assert kept[-1][1] == QWEN.n_layers


def test_one_layer_more_would_not_have_fitted():
    config = some_config(pack_tokens=4096, memory_gib=3)
    plan = plan_of(config, QWEN, LENGTHS)
    n = plan.keeps.attention
    assert 0 < n < QWEN.n_layers
    assert plan.keeps.all == 0
    one = plain_pass(plan.pass_tokens, plan.pass_logit_rows)
    more = fused_parts(config, QWEN, one, plan.keeps._replace(attention=n + 1), graph=plan.graph)
    assert sum_mib(more) + plan.context_mib > plan.card_mib * (1 - HEADROOM)


@pytest.mark.parametrize("row", CATALOG.values(), ids=lambda row: row.name)
@pytest.mark.parametrize(("gib", "pack_tokens"), [(4, 2048), (6, 8192), (12, 4096)])
def test_what_is_kept_leaves_3_percent_of_the_card_free(row, gib, pack_tokens):
    plan = plan_of(some_config(pack_tokens=pack_tokens, memory_gib=gib), row, LENGTHS)
    kept = plan.keeps.attention + plan.keeps.all
    if kept or plan.graph:
        assert plan.total_mib <= 0.97 * gib * 1024


def test_the_room_that_stays_free_is_used_before_a_training_is_refused():
    """The headroom is for what could be done without: the least that fits is taken up to the card's last MiB."""
    least = plan_of(some_config(pack_tokens=8192, memory_gib=1), QWEN, LENGTHS).total_mib
    plan = plan_of(some_config(pack_tokens=8192, memory_gib=(least + 1) / 1024), QWEN, LENGTHS)
    assert (plan.keeps, plan.graph, plan.fits) == (NOTHING, False, True)


# Where memory runs out all the same


def test_less_and_less_is_tried_and_the_graph_goes_last():
    found = list(smaller_choices(some_config(), 28, Keeps(26, 2, 4096), True))
    assert found == [  # 30 steps of 56: 28 for attention, 2 for the FFN
        (Keeps(22, 0, 4096), True),
        (Keeps(15, 0, 4096), True),
        (Keeps(0, 0, 4096), True),
        (NOTHING, False),
    ]
    assert next(smaller_choices(some_config(), 28, Keeps(0, 28, 4096), True))[0] == Keeps(14, 14, 4096)


@pytest.mark.parametrize(
    ("changes", "keeps", "graph", "expected"),
    [
        ({"checkpointing": False}, Keeps(0, 28, 4096), True, [(Keeps(0, 28, 4096), False)]),
        ({"checkpointing": False, "cuda_graph": True}, Keeps(0, 28, 4096), True, []),
        ({"checkpointing": True}, Keeps(0, 0, 4096), True, [(NOTHING, False)]),
        ({"checkpointing": True, "cuda_graph": True}, Keeps(0, 0, 4096), True, [(NOTHING, True)]),
        ({}, Keeps(1, 0, 4096), False, [(Keeps(0, 0, 4096), False), (NOTHING, False)]),
        ({}, NOTHING, False, []),
    ],
)
def test_what_the_settings_say_is_not_undone(changes, keeps, graph, expected):
    assert list(smaller_choices(some_config(**changes), 28, keeps, graph)) == expected


@given(st.integers(1, 40), st.data(), st.booleans())
def test_every_choice_keeps_less_than_the_one_before(n_layers, data, graph):
    level = data.draw(st.integers(0, 2 * n_layers))
    n_all = max(0, level - n_layers)
    before = (level, 4096, graph)
    for keeps, as_graph in smaller_choices(
        some_config(), n_layers, Keeps(level - 2 * n_all, n_all, 4096), graph
    ):
        now = (keeps.attention + 2 * keeps.all, keeps.ffn_tokens, as_graph)
        assert now < before
        assert 0 <= keeps.attention <= n_layers - keeps.all
        before = now
    assert before == (0, SMALL_FFN_TOKENS, False)


def test_a_card_that_takes_nothing_more_is_asked_for_the_least():
    plan = plan_of(some_config(pack_tokens=8192, memory_gib=2), QWEN, LENGTHS)
    assert (plan.keeps, plan.graph, plan.fits) == (NOTHING, False, False)


@pytest.mark.parametrize(("checkpointing", "n_kept"), [(False, QWEN.n_layers), (True, 0)])
def test_what_checkpointing_says_is_done_whatever_the_card(checkpointing, n_kept):
    for gib in (None, 3, 24):
        config = some_config(checkpointing=checkpointing, memory_gib=gib)
        keeps = plan_of(config, QWEN, LENGTHS).keeps
        assert (keeps.attention, keeps.all) == (0, n_kept)


# The graph


@pytest.mark.parametrize(("accumulation", "bytes_a_weight"), [(1, 0), (4, 4)])
def test_a_graph_has_workspaces_and_under_accumulation_the_gradients_once_more(accumulation, bytes_a_weight):
    with_graph, without = (
        plan_of(some_config(cuda_graph=on, accumulation=accumulation), QWEN, LENGTHS) for on in (True, False)
    )
    (graph,) = (part for part in with_graph.parts if part.name == "graph")
    n_lora = QWEN.n_lora_weights(32, "all-linear")
    assert graph.mib == 64 + bytes_a_weight * n_lora / 2**20
    assert with_graph.peak_mib - without.peak_mib == pytest.approx(graph.mib)
    assert not any(part.name == "graph" for part in without.parts)


def test_a_graph_never_keeps_a_training_from_fitting():
    found = []
    for hundredths in range(200, 400, 5):
        plans = {
            on: plan_of(
                some_config(pack_tokens=4096, memory_gib=hundredths / 100, cuda_graph=on), QWEN, LENGTHS
            )
            for on in (False, "auto")
        }
        assert plans["auto"].fits == plans[False].fits
        found.append((plans["auto"].fits, plans["auto"].graph))
    assert found == sorted(found)  # from a card that is too small over one without room for the graph
    assert set(found) == {(False, False), (True, False), (True, True)}


# pack_tokens = "auto"


@pytest.mark.parametrize(
    ("name", "gib"), [("Qwen2.5-Coder-1.5B-Instruct", 2.5), ("StarCoder2-3B", 4), ("StarCoder2-3B", 6)]
)
def test_auto_takes_the_largest_pack_that_fits(name, gib):
    row, config = CATALOG[name], some_config(pack_tokens="auto", memory_gib=gib)
    found = with_pack(config, row, LENGTHS)
    size = found.training.pack_tokens
    assert plan_of(found, row, LENGTHS).fits
    if size < LARGEST_PACK:
        larger = with_settings(config, [("training.pack_tokens", size + 256)])
        assert not plan_of(larger, row, LENGTHS).fits


def test_auto_takes_no_more_than_the_largest_that_pays_unless_a_question_is_longer():
    config = some_config(pack_tokens="auto", memory_gib=24)
    assert with_pack(config, QWEN, LENGTHS).training.pack_tokens == LARGEST_PACK
    long = [*LENGTHS, QuestionLengths("long", LARGEST_PACK, 50, 50)]
    assert with_pack(config, QWEN, long).training.pack_tokens == LARGEST_PACK + 256


def test_auto_where_nothing_fits_is_what_the_longest_question_needs():
    config = some_config(pack_tokens="auto", memory_gib=1)
    longest = max(question.n_tokens for question in LENGTHS)
    assert 0 <= with_pack(config, QWEN, LENGTHS).training.pack_tokens - longest < 256


def test_a_number_of_tokens_stays_as_it_is():
    for config in (some_config(pack_tokens=300), some_config(packing="none", pack_tokens="auto")):
        assert with_pack(config, None, LENGTHS) == config


@pytest.mark.parametrize(("row", "gib"), [(QWEN, None), (None, 6)])
def test_auto_without_a_card_or_a_shape_is_asked_wrongly(row, gib):
    with pytest.raises(SettingError, match="'auto' needs memory_gib and a known model; or give a number"):
        with_pack(some_config(pack_tokens="auto", memory_gib=gib), row, LENGTHS)
