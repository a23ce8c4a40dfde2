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


def grouped_prefix_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prefix_key: torch.Tensor,
    prefix_value: torch.Tensor,
    prefix_bias: torch.Tensor,
    own_bias: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention of one new token a row, in one softmax over its group's prefix and its own tokens; shapes are static.

    Args:
        query: (B, heads, d), rows in G groups of B / G.
        key: (B, kv_heads, N, d): the row's own tokens, the new one among them.
        value: (B, kv_heads, N, d).
        prefix_key: (G, kv_heads, P, d): of each group.
        prefix_value: (G, kv_heads, P, d).
        prefix_bias: of `bias_by_head`, added to the scores.
        own_bias: likewise. No row may have all hidden.
        scale: of the scores.

    Returns:
        (B, heads, d).
    """
    n_batch, n_heads, depth = query.shape
    n_groups, n_kv, n_prefix = prefix_key.shape[:3]
    n_rows, shared, n_own = n_batch // n_groups, n_heads // n_kv, key.shape[2]
    by_row = query.reshape(n_batch * n_kv, shared, depth)
    by_group = query.reshape(n_groups, n_rows, n_kv, shared, depth).transpose(1, 2)
    by_group = by_group.reshape(n_groups * n_kv, n_rows * shared, depth)
    # Scores are made and weighed in place: in a large batch each pass over them takes as long as reading the weights.
    scores = query.new_empty(n_groups * n_kv, n_rows * shared, n_prefix + n_own)
    prefix_keys = prefix_key.reshape(n_groups * n_kv, n_prefix, depth).transpose(1, 2)
    torch.baddbmm(prefix_bias, by_group, prefix_keys, alpha=scale, out=scores[..., :n_prefix])
    own_keys = key.reshape(n_batch * n_kv, n_own, depth).transpose(1, 2)
    on_own = torch.baddbmm(own_bias, by_row, own_keys, alpha=scale)
    by_place = scores.view(n_groups, n_kv, n_rows, shared, n_prefix + n_own)
    by_place[..., n_prefix:] = on_own.view(n_groups, n_rows, n_kv, shared, n_own).transpose(1, 2)
    weights = torch.softmax(scores, dim=-1)  # computed in 32 bits, whatever the scores are kept in
    of_prefix = torch.bmm(weights[..., :n_prefix], prefix_value.reshape(n_groups * n_kv, n_prefix, depth))
    by_place = weights.view(n_groups, n_kv, n_rows, shared, n_prefix + n_own)
    of_own = torch.bmm(
        by_place[..., n_prefix:].transpose(1, 2).reshape(n_batch * n_kv, shared, n_own),
        value.reshape(n_batch * n_kv, n_own, depth),
    )
    out = of_prefix.view(n_groups, n_kv, n_rows, shared, depth).transpose(1, 2)
    return (out + of_own.view(n_groups, n_rows, n_kv, shared, depth)).reshape(n_batch, n_heads, depth)


def bias_by_head(
    sees_prefix: torch.Tensor, sees_own: torch.Tensor, n_heads: int, n_kv: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `grouped_prefix_attention` adds to its scores: 0 where a token is seen, -inf where it is not.

    Args:
        sees_prefix: (G, B / G or 1, P) bool: of each row, or of all rows of a group.
        sees_own: (B, N) bool.
        n_heads: of the query.
        n_kv: of keys and values.
        dtype: of the scores.

    Returns:
        (G * kv_heads, B / G * heads / kv_heads or 1, P) and (B * kv_heads, 1, N).
    """
    n_groups, n_rows, n_prefix = sees_prefix.shape
    shared = n_heads // n_kv if n_rows > 1 else 1
    on_prefix = sees_prefix[:, None, :, None].expand(-1, n_kv, -1, shared, -1)
    on_own = sees_own[:, None].expand(-1, n_kv, -1)

    def bias(seen: torch.Tensor) -> torch.Tensor:
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))

    return (
        bias(on_prefix.reshape(n_groups * n_kv, n_rows * shared, n_prefix)),
        bias(on_own.reshape(len(sees_own) * n_kv, 1, -1)),
    )
