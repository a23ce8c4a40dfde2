"""Attention over a group's prefix and a row's own tokens, against the same keys and values in one sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from groundql.models.attention import bias_by_head, grouped_prefix_attention

DEPTH = 4


@settings(deadline=None, max_examples=40)
@given(
    n_groups=st.integers(1, 3),
    n_rows=st.integers(1, 3),
    n_kv=st.integers(1, 2),
    shared=st.integers(1, 3),
    n_prefix=st.integers(1, 6),
    n_own=st.integers(1, 5),
    per_row=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_it_is_plain_attention_over_what_is_not_hidden(
    n_groups, n_rows, n_kv, shared, n_prefix, n_own, per_row, seed
):
    make = torch.Generator().manual_seed(seed)
    n = n_groups * n_rows
    random = lambda *size: torch.randn(*size, generator=make, dtype=torch.float64)  # noqa: E731
    query = random(n, n_kv * shared, DEPTH)
    key, value = random(2, n, n_kv, n_own, DEPTH)
    prefix_key, prefix_value = random(2, n_groups, n_kv, n_prefix, DEPTH)
    sees_prefix = torch.rand(n_groups, n_rows if per_row else 1, n_prefix, generator=make) < 0.5
    sees_own = torch.rand(n, n_own, generator=make) < 0.5
    sees_own[:, -1] = True

    biases = bias_by_head(sees_prefix, sees_own, n_kv * shared, n_kv, torch.float64)
    found = grouped_prefix_attention(query, key, value, prefix_key, prefix_value, *biases, 0.3)
    for row in range(n):
        group = row // n_rows
        keys = torch.cat([prefix_key[group], key[row]], dim=1).repeat_interleave(shared, dim=0)
        values = torch.cat([prefix_value[group], value[row]], dim=1).repeat_interleave(shared, dim=0)
        sees = torch.cat([sees_prefix[group, row % n_rows if per_row else 0], sees_own[row]])
        plain = scaled_dot_product_attention(query[row][:, None], keys, values, sees[None], scale=0.3)
        assert found[row] == pytest.approx(plain[:, 0], abs=1e-6)
