"""One launch a linear: 4-bit weights unpacked, the adapter's product added in fp32, rounded once. Triton, CUDA.

The layout is that of bitsandbytes: two values a byte, the first in the high half; a scale a block of weights in row
order; with double quantisation the scales are 8-bit codes with a scale a block of theirs and one offset.
"""

from typing import Any

import torch
import triton
import triton.language as tl

_ROWS, _COLS = 32, 128  # of a tile


def merge_4bit(
    packed: torch.Tensor,
    state: Any,
    adapter: tuple[torch.Tensor, torch.Tensor, float] | None,
    out: torch.Tensor,
) -> None:
    """Write the weight and its adapter's product into `out`, (n_out, n_in), 16-bit or fp32.

    Args:
        packed: bitsandbytes' bytes.
        state: its QuantState, scales quantised or not.
        adapter: A (rank, n_in), B (n_out, rank) and the scale of their product; None: the weight alone.
        out: rows contiguous.
    """
    n_out, n_in = out.shape
    a, b, scale = adapter or (packed, packed, 0.0)
    rank = a.shape[0] if adapter else 0
    nested = bool(state.nested)
    grid = (triton.cdiv(n_out, _ROWS), triton.cdiv(n_in, _COLS))
    _merge_4bit[grid](
        packed,
        state.code,
        state.absmax,
        state.state2.code if nested else state.code,
        state.state2.absmax if nested else state.code,
        state.offset if nested else state.code,
        a,
        b,
        out,
        n_out,
        n_in,
        rank,
        scale,
        BLOCK=state.blocksize,
        BLOCK2=state.state2.blocksize if nested else 1,
        NESTED=nested,
        ALIGNED=n_in % state.blocksize == 0 and _COLS % state.blocksize == 0,
        RANK=max(16, triton.next_power_of_2(rank)) if rank else 0,
        ROWS=_ROWS,
        COLS=_COLS,
        num_warps=4,
    )


@triton.jit
def _merge_4bit(
    packed_ptr, code_ptr, absmax_ptr, code2_ptr, absmax2_ptr, offset_ptr, a_ptr, b_ptr, out_ptr,
    n_out, n_in, rank, scale,
    BLOCK: tl.constexpr, BLOCK2: tl.constexpr, NESTED: tl.constexpr, ALIGNED: tl.constexpr,
    RANK: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    half = tl.program_id(1) * (COLS // 2) + tl.arange(0, COLS // 2)
    inside = (rows < n_out)[:, None] & (half < n_in // 2)[None, :]
    at = rows.to(tl.int64)[:, None] * (n_in // 2) + half[None, :]
    byte = tl.load(packed_ptr + at, mask=inside, other=0).to(tl.int32)
    high = tl.load(code_ptr + (byte >> 4))
    low = tl.load(code_ptr + (byte & 15))
    weight = tl.interleave(high, low)  # (ROWS, COLS)
    if ALIGNED:  # a row is whole blocks: a scale for each
        blocks = tl.program_id(1) * (COLS // BLOCK) + tl.arange(0, COLS // BLOCK)
        real = (rows < n_out)[:, None] & (blocks < n_in // BLOCK)[None, :]
        block = rows.to(tl.int64)[:, None] * (n_in // BLOCK) + blocks[None, :]
        absmax = _scales(absmax_ptr, code2_ptr, absmax2_ptr, offset_ptr, block, real, BLOCK2, NESTED)
        parts = tl.reshape(weight, (ROWS, COLS // BLOCK, BLOCK)) * absmax[:, :, None]
        weight = tl.reshape(parts, (ROWS, COLS))
    else:
        absmax = _scales(
            absmax_ptr, code2_ptr, absmax2_ptr, offset_ptr, (2 * at) // BLOCK, inside, BLOCK2, NESTED
        )
        weight *= tl.interleave(absmax, absmax)
    cols = tl.program_id(1) * COLS + tl.arange(0, COLS)
    if RANK > 0:
        weight += (
            _product(a_ptr, b_ptr, rows, cols, n_out, n_in, rank, out_ptr.dtype.element_ty, RANK) * scale
        )
    whole = (rows < n_out)[:, None] & (cols < n_in)[None, :]
    to = rows.to(tl.int64)[:, None] * n_in + cols[None, :]
    tl.store(out_ptr + to, weight.to(out_ptr.dtype.element_ty), mask=whole)


@triton.jit
def _scales(
    absmax_ptr, code2_ptr, absmax2_ptr, offset_ptr, block, real, BLOCK2: tl.constexpr, NESTED: tl.constexpr
):
    """The scales of these blocks, in fp32."""
    if NESTED:
        code = tl.load(absmax_ptr + block, mask=real, other=0).to(tl.int32)
        of_scale = tl.load(absmax2_ptr + block // BLOCK2, mask=real, other=0.0)
        scale = tl.load(code2_ptr + code) * of_scale + tl.load(offset_ptr)
    else:
        scale = tl.load(absmax_ptr + block, mask=real, other=0.0)
    return scale


@triton.jit
def _product(a_ptr, b_ptr, rows, cols, n_out, n_in, rank, TYPE: tl.constexpr, RANK: tl.constexpr):
    """B A on one tile: factors of the result's type, fp32 sums."""
    lane = tl.arange(0, RANK)
    is_rank = lane < rank
    b = tl.load(
        b_ptr + rows[:, None] * rank + lane[None, :],
        mask=(rows < n_out)[:, None] & is_rank[None, :],
        other=0.0,
    )
    a = tl.load(
        a_ptr + lane[:, None] * n_in + cols[None, :],
        mask=is_rank[:, None] & (cols < n_in)[None, :],
        other=0.0,
    )
    return tl.dot(b.to(TYPE), a.to(TYPE), out_dtype=tl.float32, input_precision="ieee")


def merge_dense(
    weight: torch.Tensor, adapter: tuple[torch.Tensor, torch.Tensor, float] | None, out: torch.Tensor
) -> None:
    """The same for a weight that is not quantised, (n_out, n_in)."""
    n_out, n_in = out.shape
    a, b, scale = adapter or (weight, weight, 0.0)
    rank = a.shape[0] if adapter else 0
    grid = (triton.cdiv(n_out, _ROWS), triton.cdiv(n_in, _COLS))
    _merge_dense[grid](
        weight, a, b, out, n_out, n_in, rank, scale,
        RANK=max(16, triton.next_power_of_2(rank)) if rank else 0, ROWS=_ROWS, COLS=_COLS, num_warps=4,
    )  # fmt: skip


@triton.jit
def _merge_dense(
    weight_ptr, a_ptr, b_ptr, out_ptr, n_out, n_in, rank, scale,
    RANK: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1) * COLS + tl.arange(0, COLS)
    inside = (rows < n_out)[:, None] & (cols < n_in)[None, :]
    at = rows.to(tl.int64)[:, None] * n_in + cols[None, :]
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if RANK > 0:
        weight += (
            _product(a_ptr, b_ptr, rows, cols, n_out, n_in, rank, out_ptr.dtype.element_ty, RANK) * scale
        )
    tl.store(out_ptr + at, weight.to(out_ptr.dtype.element_ty), mask=inside)
