"""Attention of several rows over one shared prefix, for training packs and for decoding. Needs torch."""

import torch


def shared_prefix_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor],
    hidden: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention of each row over the prefix and its own tokens, in one softmax.

    Args:
        query: (B, heads, W, d): the new tokens of each row.
        key: (B, kv_heads, N, d): the row's own tokens so far, the new ones last.
        value: (B, kv_heads, N, d).
        prefix: keys and values of the shared prefix, each (1, kv_heads, P, d).
        hidden: (B, 1, W, N) bool, True where a token may not see an own token; it sees the whole prefix. Or
            (B, 1, W, P + N): the prefix too, for a sliding window.
        scale: of the scores.

    Returns:
        (B, W, heads, d).
    """
    n_rows, n_heads, width, depth = query.shape
    n_kv, n_own = key.shape[1], key.shape[2]
    shared = n_heads // n_kv
    folded = query.reshape(n_rows, n_kv, shared * width, depth) * scale
    by_head = folded.transpose(0, 1).reshape(n_kv, -1, depth)  # (kv, B * shared * W, d)
    of_prefix = torch.matmul(by_head, prefix[0][0].transpose(1, 2))  # (kv, B * shared * W, P)
    of_prefix = of_prefix.view(n_kv, n_rows, shared * width, -1).transpose(0, 1)
    if hidden.shape[-1] > n_own:
        too_far, hidden = hidden[:, :, None, :, :-n_own], hidden[..., -n_own:]
        of_prefix = of_prefix.reshape(n_rows, n_kv, shared, width, -1).masked_fill(too_far, float("-inf"))
        of_prefix = of_prefix.view(n_rows, n_kv, shared * width, -1)
    of_own = torch.matmul(folded, key.transpose(2, 3)).view(n_rows, n_kv, shared, width, n_own)
    of_own = of_own.masked_fill(hidden[:, :, None], float("-inf")).view(n_rows, n_kv, shared * width, n_own)
    weights = torch.softmax(torch.cat([of_prefix, of_own], dim=-1), dim=-1, dtype=torch.float32).to(
        query.dtype
    )
    n_prefix = weights.shape[-1] - n_own
    on_prefix = weights[..., :n_prefix].transpose(0, 1).reshape(n_kv, -1, n_prefix)
    out = torch.matmul(on_prefix, prefix[1][0]).view(n_kv, n_rows, shared * width, depth).transpose(0, 1)
    out = out + torch.matmul(weights[..., n_prefix:], value)
    return out.reshape(n_rows, n_heads, width, depth).transpose(1, 2)
