"""Attention over schema-shared packs, forward and backward: our kernels in several cuts against torch's ways.

    python -m benchmarks.attention EXAMPLES.npz --pack-tokens 8192

One layer's attention on real packs with the heads of a catalog row; times are medians of CUDA events, in microseconds.
Needs a GPU.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.examples_file import load_examples
from benchmarks.fused_step import full_packs
from groundql.models.catalog import CATALOG
from groundql.training.attention import layout_of, packed_attention
from groundql.training.fused.flash import Tuning, attend, attend_backward
from groundql.training.fused.spans import spans_of
from groundql.training.packs import Pack

CUTS = (  # tile, step, warps, stages
    *((64, 64, 4, stages) for stages in (2, 3)),
    *((64, 32, 4, stages) for stages in (2, 3)),
    (64, 64, 8, 2),
    *((128, 64, 8, stages) for stages in (2, 3)),
    (128, 32, 4, 3),
    (128, 32, 8, 3),
    (128, 128, 8, 2),
)


def microseconds(work: Callable[[], Any], n: int = 12) -> float:
    """Median time of `work` on the device."""
    for _ in range(3):
        work()
    times = []
    for _ in range(n):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000)
    return round(statistics.median(times), 1)


def ours(
    pack: Pack, shape: tuple[int, int, int], qkv: torch.Tensor, grad: torch.Tensor
) -> list[dict[str, Any]]:
    """Every cut that compiles."""
    found = []
    for tile, step, warps, stages in CUTS:
        if shape[2] > 128 and (tile > 64 or step > 64):
            continue
        spans = spans_of(pack.groups, pack.questions, pack.positions, tile=tile).to("cuda")
        how = Tuning(step, step, warps, warps, stages, stages)
        facts: dict[str, Any] = {"way": "ours", "tile": tile, "step": step, "warps": warps, "stages": stages}
        try:
            out, sums = attend(qkv, spans, *shape, 0, how)
            facts["forward_us"] = microseconds(lambda: attend(qkv, spans, *shape, 0, how))  # noqa: B023
            facts["backward_us"] = microseconds(
                lambda: attend_backward(grad, qkv, out, sums, spans, shape, 0, how)  # noqa: B023
            )
        except Exception as error:  # a cut that needs more shared memory than the card has
            facts["failed"] = str(error)[:60]
        found.append(facts)
    return found


def by_autograd(
    name: str, work: Callable[[torch.Tensor], torch.Tensor], qkv: torch.Tensor, grad: torch.Tensor
) -> dict[str, Any]:
    """Times of a way that torch differentiates; peak memory above the inputs."""
    facts: dict[str, Any] = {"way": name}
    try:
        leaf = qkv.clone().requires_grad_()
        with torch.no_grad():
            facts["forward_us"] = microseconds(lambda: work(qkv))
        both = microseconds(lambda: torch.autograd.grad(work(leaf), leaf, grad))
        facts["backward_us"] = round(both - facts["forward_us"], 1)
    except Exception as error:
        facts["failed"] = f"{type(error).__name__}: {error}"[:160]
    return facts


def torch_ways(pack: Pack, shape: tuple[int, int, int]) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """SDPA a group, SDPA under one dense mask, variable-length attention over copied prefixes, FlexAttention."""
    n_heads, n_kv, depth = shape
    layout = layout_of(pack.groups, pack.questions).to("cuda")
    g, q = (torch.tensor(x, device="cuda") for x in (pack.groups, pack.questions))
    n = len(g)
    sees = torch.ones(n, n, dtype=torch.bool, device="cuda").tril()
    sees &= (g[:, None] == g[None]) & ((q[None] == -1) | (q[:, None] == q[None]))

    def split(qkv: torch.Tensor) -> list[torch.Tensor]:
        heads = qkv.view(n, -1, depth).transpose(0, 1)[None]
        return list(heads.split([n_heads, n_kv, n_kv], dim=1))

    def grouped(qkv: torch.Tensor) -> torch.Tensor:
        return packed_attention(*split(qkv), layout, None, with_matmul=False)[0].reshape(n, -1)

    def masked(qkv: torch.Tensor) -> torch.Tensor:
        queries, keys, values = split(qkv)
        keys, values = (x.repeat_interleave(n_heads // n_kv, 1) for x in (keys, values))
        out = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=sees[None, None]
        )
        return out[0].transpose(0, 1).reshape(n, -1)

    return {"SDPA a group": grouped, "SDPA, dense mask": masked, **_varlen(pack, shape), **_flex(g, q, shape)}


def _varlen(pack: Pack, shape: tuple[int, int, int]) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    n_heads, n_kv, depth = shape
    runs = [(0, 0)]
    for at in range(1, len(pack) + 1):
        if at == len(pack) or (pack.groups[at], pack.questions[at]) != (
            pack.groups[at - 1],
            pack.questions[at - 1],
        ):
            runs[-1] = (runs[-1][0], at)
            runs.append((at, at))
    runs.pop()
    index, ends_q, ends_k, prefix = [], [0], [0], range(0)
    for start, end in runs:
        own = range(start, end)
        if pack.questions[start] == -1:
            prefix = own
            index += own
            ends_k.append(ends_k[-1] + len(own))
        else:
            index += [*prefix, *own]
            ends_k.append(ends_k[-1] + len(prefix) + len(own))
        ends_q.append(end)
    keys_at = torch.tensor(index, device="cuda")
    cu_q, cu_k = (torch.tensor(x, dtype=torch.int32, device="cuda") for x in (ends_q, ends_k))
    longest_q = max(b - a for a, b in itertools.pairwise(ends_q))
    longest_k = max(b - a for a, b in itertools.pairwise(ends_k))

    def varlen(qkv: torch.Tensor) -> torch.Tensor:
        from torch.nn.attention.varlen import varlen_attn

        heads = qkv.view(len(qkv), -1, depth)
        queries, keys, values = heads.split([n_heads, n_kv, n_kv], dim=1)
        gathered = [x.contiguous()[keys_at] for x in (keys, values)]
        out = varlen_attn(
            queries.contiguous(), *gathered, cu_q, cu_k, longest_q, longest_k, window_size=(-1, 0)
        )
        return out.reshape(len(qkv), -1)

    return {"variable length": varlen}


def _flex(
    g: torch.Tensor, q: torch.Tensor, shape: tuple[int, int, int]
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n_heads, n_kv, depth = shape
    n = len(g)

    def rule(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i >= j) & (g[i] == g[j]) & ((q[j] == -1) | (q[i] == q[j]))

    mask = create_block_mask(rule, None, None, n, n, device="cuda")
    compiled = torch.compile(flex_attention)

    def flex(qkv: torch.Tensor) -> torch.Tensor:
        heads = qkv.view(n, -1, depth).transpose(0, 1)[None]
        queries, keys, values = heads.split([n_heads, n_kv, n_kv], dim=1)
        out = compiled(queries, keys, values, block_mask=mask, enable_gqa=True)
        return out[0].transpose(0, 1).reshape(n, -1)

    return {"FlexAttention": flex}


def main() -> None:
    """Print a JSON object for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path)
    parser.add_argument("--model", default="Qwen2.5-Coder-1.5B-Instruct")
    parser.add_argument("--pack-tokens", type=int, default=8192)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--only", choices=["ours", "torch"])
    asked = parser.parse_args()
    row = CATALOG[asked.model]
    shape = row.n_heads, row.n_kv_heads, row.head_dim
    pack = full_packs(load_examples(asked.examples), asked.pack_tokens, asked.group_size)[0]
    qkv = torch.randn(
        len(pack), sum(shape[:2]) * row.head_dim + shape[1] * row.head_dim, device="cuda"
    ).bfloat16()
    grad = torch.randn(len(pack), row.n_heads * row.head_dim, device="cuda").bfloat16()
    found: Sequence[dict[str, Any]] = ours(pack, shape, qkv, grad) if asked.only != "torch" else []
    if asked.only != "ours":
        found = [
            *found,
            *(by_autograd(name, way, qkv, grad) for name, way in torch_ways(pack, shape).items()),
        ]
    for facts in sorted(found, key=lambda f: f.get("forward_us", 1e9) + f.get("backward_us", 0)):
        print(json.dumps({"model": asked.model, "tokens": len(pack), **facts}), flush=True)


if __name__ == "__main__":
    main()
