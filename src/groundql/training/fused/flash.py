"""Attention over schema-shared packs in Triton: no mask, no copies of keys, memory linear in tokens. CUDA from 8.0.

Forward keeps the result and a sum a head and token; backward forms the weights again tile by tile. Grouped heads read
the same keys; gradients of a key's heads are summed at the end. The recurrence is that of arXiv:2205.14135 and
arXiv:2307.08691.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from groundql.training.fused.spans import Spans

_LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Tuning:
    """How the kernels cut their work; the tile of one program comes with the spans."""

    step: int = 64  # tokens of the other side that a program reads at a time, forward
    step_backward: int = 64
    warps: int = 4
    warps_backward: int = 4
    stages: int = 2
    stages_backward: int = 2


def tuning_for(depth: int) -> Tuning:
    """Fastest on an H100 for depth 128 (benchmarks/attention.py); other depths were not timed, 256 must fit shared memory."""
    if depth == 128:
        return Tuning(step=32)
    if depth > 128:
        return Tuning(step=32, step_backward=32, warps=8, warps_backward=8)
    return Tuning()


def attend(
    qkv: torch.Tensor,
    spans: Spans,
    n_heads: int,
    n_kv: int,
    depth: int,
    window: int,
    tuning: Tuning | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one pack.

    Args:
        qkv: (T, (heads + 2 kv) * d): queries, keys, values of each token, rotated.
        spans: of the pack.
        n_heads: query heads.
        n_kv: key heads; a divisor of `n_heads`.
        depth: d, a power of two from 16 to 256.
        window: positions that a token sees back, itself with them; 0: all.
        tuning: None: `tuning_for`.

    Returns:
        (T, heads * d), and (heads, T) fp32: log2 of the sums of the softmax, for backward.
    """
    n_tokens = qkv.shape[0]
    out = torch.empty(n_tokens, n_heads * depth, dtype=qkv.dtype, device=qkv.device)
    log_sums = torch.empty(n_heads, n_tokens, dtype=torch.float32, device=qkv.device)
    how = tuning or tuning_for(depth)
    _forward[(triton.cdiv(n_tokens, spans.tile), n_heads)](
        qkv, spans.own_start, spans.prefix_start, spans.prefix_end, spans.positions, spans.of_queries,
        out, log_sums, n_tokens, qkv.stride(0), n_heads, n_kv, depth**-0.5 * _LOG2E, window,
        D=depth, TILE=spans.tile, STEP=how.step, num_warps=how.warps, num_stages=how.stages,
    )  # fmt: skip
    return out, log_sums


@triton.jit
def _sees(queries, keys, own, low, high, q_pos, k_pos, window, OWN: tl.constexpr):
    """(M, N) bool: which keys of one kind, prefix or own, each query sees."""
    if OWN:
        seen = (keys[None, :] >= own[:, None]) & (keys[None, :] <= queries[:, None])
    else:
        seen = (keys[None, :] >= low[:, None]) & (keys[None, :] < high[:, None])
    if window > 0:
        seen &= q_pos[:, None] - k_pos[None, :] < window
    return seen


@triton.jit(do_not_specialize=["n_tokens"])
def _forward(
    qkv_ptr, own_ptr, low_ptr, high_ptr, pos_ptr, ranges_ptr, out_ptr, sums_ptr,
    n_tokens, stride, n_heads, n_kv, scale, window,
    D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    head = tl.program_id(1)
    kv = head // (n_heads // n_kv)
    queries = tile * TILE + tl.arange(0, TILE)
    real = queries < n_tokens
    lane = tl.arange(0, D)
    q_at = qkv_ptr + queries.to(tl.int64)[:, None] * stride + head * D + lane[None, :]
    q = tl.load(q_at, mask=real[:, None], other=0.0)
    own = tl.load(own_ptr + queries, mask=real, other=n_tokens)
    low = tl.load(low_ptr + queries, mask=real, other=0)
    high = tl.load(high_ptr + queries, mask=real, other=0)
    q_pos = tl.load(pos_ptr + queries, mask=real, other=0)
    top = tl.full((TILE,), -1.0e30, tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    acc = tl.zeros((TILE, D), tl.float32)
    keys_ptr = qkv_ptr + (n_heads + kv) * D
    values_ptr = qkv_ptr + (n_heads + n_kv + kv) * D
    for kind in tl.static_range(2):
        start = tl.load(ranges_ptr + tile * 4 + 2 * kind)
        end = tl.load(ranges_ptr + tile * 4 + 2 * kind + 1)
        for first in range(start, end, STEP):
            keys = first + tl.arange(0, STEP)
            there = keys < end
            at = keys.to(tl.int64)[:, None] * stride + lane[None, :]
            k = tl.load(keys_ptr + at, mask=there[:, None], other=0.0)
            k_pos = tl.load(pos_ptr + keys, mask=there, other=0)
            seen = _sees(queries, keys, own, low, high, q_pos, k_pos, window, kind == 1) & there[None, :]
            scores = tl.where(
                seen, tl.dot(q, tl.trans(k), out_dtype=tl.float32, input_precision="ieee") * scale, -1.0e30
            )
            new = tl.maximum(top, tl.max(scores, axis=1))
            weights = tl.where(seen, tl.exp2(scores - new[:, None]), 0.0)
            shrink = tl.exp2(top - new)
            total = total * shrink + tl.sum(weights, axis=1)
            v = tl.load(values_ptr + at, mask=there[:, None], other=0.0)
            acc = acc * shrink[:, None] + tl.dot(
                weights.to(v.dtype), v, out_dtype=tl.float32, input_precision="ieee"
            )
            top = new
    total = tl.where(real, total, 1.0)
    out_at = out_ptr + queries.to(tl.int64)[:, None] * (n_heads * D) + head * D + lane[None, :]
    tl.store(out_at, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=real[:, None])
    tl.store(sums_ptr + head * n_tokens + queries, top + tl.log2(total), mask=real)


def attend_backward(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    spans: Spans,
    shape: tuple[int, int, int],
    window: int,
    tuning: Tuning | None = None,
) -> torch.Tensor:
    """Gradient of `qkv`, like it.

    Args:
        grad: (T, heads * d), the gradient of the result.
        qkv: as `attend` read it.
        out: what it returned.
        log_sums: likewise.
        spans: of the pack.
        shape: heads, key heads and d.
        window: as in `attend`.
        tuning: as in `attend`.
    """
    n_heads, n_kv, depth = shape
    n_tokens = qkv.shape[0]
    n_tiles = triton.cdiv(n_tokens, spans.tile)
    result = torch.empty_like(qkv)
    deltas = torch.empty_like(log_sums)
    by_head = torch.empty(2, n_tokens, n_heads, depth, dtype=qkv.dtype, device=qkv.device)
    how = tuning or tuning_for(depth)
    launch = {"num_warps": how.warps_backward, "num_stages": how.stages_backward, "STEP": how.step_backward}
    _queries_backward[(n_tiles, n_heads)](
        qkv, spans.own_start, spans.prefix_start, spans.prefix_end, spans.positions, spans.of_queries,
        grad, out, log_sums, deltas, result, n_tokens, qkv.stride(0), n_heads, n_kv, depth**-0.5, window,
        D=depth, TILE=spans.tile, **launch,
    )  # fmt: skip
    _keys_backward[(n_tiles, n_heads)](
        qkv, spans.own_start, spans.prefix_start, spans.prefix_end, spans.positions, spans.of_keys,
        spans.tile_order, grad, log_sums, deltas, by_head[0], by_head[1], n_tokens, qkv.stride(0), n_heads, n_kv,
        depth**-0.5, window, D=depth, TILE=spans.tile, **launch,
    )  # fmt: skip
    heads = result.view(n_tokens, n_heads + 2 * n_kv, depth)
    shared = by_head.view(2, n_tokens, n_kv, n_heads // n_kv, depth)
    torch.sum(shared[0], dim=2, out=heads[:, n_heads : n_heads + n_kv])
    torch.sum(shared[1], dim=2, out=heads[:, n_heads + n_kv :])
    return result


@triton.jit(do_not_specialize=["n_tokens"])
def _queries_backward(
    qkv_ptr, own_ptr, low_ptr, high_ptr, pos_ptr, ranges_ptr, grad_ptr, out_ptr, sums_ptr, deltas_ptr, result_ptr,
    n_tokens, stride, n_heads, n_kv, scale, window,
    D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    head = tl.program_id(1)
    kv = head // (n_heads // n_kv)
    queries = tile * TILE + tl.arange(0, TILE)
    real = queries < n_tokens
    lane = tl.arange(0, D)
    at_q = queries.to(tl.int64)[:, None] * stride + head * D + lane[None, :]
    at_out = queries.to(tl.int64)[:, None] * (n_heads * D) + head * D + lane[None, :]
    q = tl.load(qkv_ptr + at_q, mask=real[:, None], other=0.0)
    do = tl.load(grad_ptr + at_out, mask=real[:, None], other=0.0)
    out = tl.load(out_ptr + at_out, mask=real[:, None], other=0.0)
    delta = tl.sum(do.to(tl.float32) * out.to(tl.float32), axis=1)
    tl.store(deltas_ptr + head * n_tokens + queries, delta, mask=real)
    log_sum = tl.load(sums_ptr + head * n_tokens + queries, mask=real, other=0.0)
    own = tl.load(own_ptr + queries, mask=real, other=n_tokens)
    low = tl.load(low_ptr + queries, mask=real, other=0)
    high = tl.load(high_ptr + queries, mask=real, other=0)
    q_pos = tl.load(pos_ptr + queries, mask=real, other=0)
    dq = tl.zeros((TILE, D), tl.float32)
    keys_ptr = qkv_ptr + (n_heads + kv) * D
    values_ptr = qkv_ptr + (n_heads + n_kv + kv) * D
    for kind in tl.static_range(2):
        start = tl.load(ranges_ptr + tile * 4 + 2 * kind)
        end = tl.load(ranges_ptr + tile * 4 + 2 * kind + 1)
        for first in range(start, end, STEP):
            keys = first + tl.arange(0, STEP)
            there = keys < end
            at = keys.to(tl.int64)[:, None] * stride + lane[None, :]
            k = tl.load(keys_ptr + at, mask=there[:, None], other=0.0)
            v = tl.load(values_ptr + at, mask=there[:, None], other=0.0)
            k_pos = tl.load(pos_ptr + keys, mask=there, other=0)
            seen = _sees(queries, keys, own, low, high, q_pos, k_pos, window, kind == 1) & there[None, :]
            scores = tl.dot(q, tl.trans(k), out_dtype=tl.float32, input_precision="ieee") * (
                scale * 1.4426950408889634
            )
            weights = tl.where(seen, tl.exp2(scores - log_sum[:, None]), 0.0)
            dw = tl.dot(do, tl.trans(v), out_dtype=tl.float32, input_precision="ieee")
            ds = weights * (dw - delta[:, None])
            dq += tl.dot(ds.to(k.dtype), k, out_dtype=tl.float32, input_precision="ieee")
    tl.store(result_ptr + at_q, (dq * scale).to(result_ptr.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["n_tokens"])
def _keys_backward(
    qkv_ptr, own_ptr, low_ptr, high_ptr, pos_ptr, ends_ptr, order_ptr, grad_ptr, sums_ptr, deltas_ptr, dk_ptr, dv_ptr,
    n_tokens, stride, n_heads, n_kv, scale, window,
    D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile = tl.load(order_ptr + tl.program_id(0))
    head = tl.program_id(1)
    kv = head // (n_heads // n_kv)
    keys = tile * TILE + tl.arange(0, TILE)
    real = keys < n_tokens
    lane = tl.arange(0, D)
    at_k = keys.to(tl.int64)[:, None] * stride + (n_heads + kv) * D + lane[None, :]
    k = tl.load(qkv_ptr + at_k, mask=real[:, None], other=0.0)
    v = tl.load(qkv_ptr + n_kv * D + at_k, mask=real[:, None], other=0.0)
    k_pos = tl.load(pos_ptr + keys, mask=real, other=0)
    dk = tl.zeros((TILE, D), tl.float32)
    dv = tl.zeros((TILE, D), tl.float32)
    end = tl.load(ends_ptr + tile)
    for first in range(tile * TILE, end, STEP):
        queries = first + tl.arange(0, STEP)
        there = queries < end
        q = tl.load(
            qkv_ptr + queries.to(tl.int64)[:, None] * stride + head * D + lane[None, :],
            mask=there[:, None], other=0.0,
        )  # fmt: skip
        do = tl.load(
            grad_ptr + queries.to(tl.int64)[:, None] * (n_heads * D) + head * D + lane[None, :],
            mask=there[:, None], other=0.0,
        )  # fmt: skip
        own = tl.load(own_ptr + queries, mask=there, other=n_tokens)
        low = tl.load(low_ptr + queries, mask=there, other=0)
        high = tl.load(high_ptr + queries, mask=there, other=0)
        q_pos = tl.load(pos_ptr + queries, mask=there, other=0)
        log_sum = tl.load(sums_ptr + head * n_tokens + queries, mask=there, other=0.0)
        delta = tl.load(deltas_ptr + head * n_tokens + queries, mask=there, other=0.0)
        seen = _sees(queries, keys, own, low, high, q_pos, k_pos, window, True)
        seen |= _sees(queries, keys, own, low, high, q_pos, k_pos, window, False)
        seen &= there[:, None] & real[None, :]
        scores = tl.dot(q, tl.trans(k), out_dtype=tl.float32, input_precision="ieee") * (
            scale * 1.4426950408889634
        )
        weights = tl.where(seen, tl.exp2(scores - log_sum[:, None]), 0.0)
        dv += tl.dot(tl.trans(weights.to(do.dtype)), do, out_dtype=tl.float32, input_precision="ieee")
        dw = tl.dot(do, tl.trans(v), out_dtype=tl.float32, input_precision="ieee")
        ds = weights * (dw - delta[:, None])
        dk += tl.dot(tl.trans(ds.to(q.dtype)), q, out_dtype=tl.float32, input_precision="ieee")
    at = keys.to(tl.int64)[:, None] * (n_heads * D) + head * D + lane[None, :]
    tl.store(dk_ptr + at, (dk * scale).to(dk_ptr.dtype.element_ty), mask=real[:, None])
    tl.store(dv_ptr + at, dv.to(dv_ptr.dtype.element_ty), mask=real[:, None])
