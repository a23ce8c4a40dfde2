"""Gumbel noise that is a function of (row's seed, position, token): the same in any batch and on a second reading.

Adding it to logits / temperature and taking the largest draws from the softmax; after a refusal the next largest is an
exact draw from what is left. Needs torch.
"""

import torch

_ODD = 0x45D9F3B  # a multiplier that is known to mix 32-bit words well


def gumbel_noise(seeds: torch.Tensor, positions: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """(B, n_tokens) float32 noise, each about -log(-log(uniform)).

    Args:
        seeds: (B,) int64.
        positions: (B,) int64: which token of its own the row draws.
        n_tokens: size of the vocabulary.
    """
    token = torch.arange(n_tokens, device=seeds.device, dtype=torch.int32)
    low, high = _words(seeds * 1_000_003 + positions)
    bits = _mixed(_mixed(token ^ low[:, None]) ^ high[:, None])
    uniform = (_right(bits, 9).float() + 0.5) * 2.0**-23  # 23 bits: in (0, 1), both ends out
    return -torch.log(-torch.log(uniform))


def _words(key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two int32 words from an int64 key, by the mixing of splitmix64 with its signed constants."""
    key = key * -7046029254386353131
    key = (key ^ ((key >> 30) & (2**34 - 1))) * -4658895280553007687
    key = (key ^ ((key >> 27) & (2**37 - 1))) * -7723592293110705685
    key = key ^ ((key >> 31) & (2**33 - 1))
    return key.to(torch.int32), (key >> 32).to(torch.int32)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """A permutation of the 32-bit words; products wrap around."""
    bits = (bits ^ _right(bits, 16)) * _ODD
    bits = (bits ^ _right(bits, 16)) * _ODD
    return bits ^ _right(bits, 16)


def _right(bits: torch.Tensor, n: int) -> torch.Tensor:
    """Shift to the right with zeros coming in."""
    return (bits >> n) & ((1 << (32 - n)) - 1)
