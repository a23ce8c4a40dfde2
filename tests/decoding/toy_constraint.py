"""A stand-in for the constraint of a schema: a small random automaton over token ids, with dead ends and a gate."""

from collections import Counter

import numpy as np


class ToyConstraint:
    """Accepts a token by a hash of the last two tokens and itself; about one in `one_in` passes, nothing after a trap, and
    an end alone after six. The gate lets one text in `gate` through."""

    def __init__(self, n_tokens, ends, *, one_in=4, traps=7, gate=3, names=False):
        self.n_tokens, self.ends = n_tokens, ends
        self.one_in, self.traps, self.gate = one_in, traps, gate
        self.names = names  # whether the gate's message names the second token, which is then gone back to
        self.tokens = []
        self.refusals = Counter()
        self.refused_by = self.gate_error = None

    def accepts(self, token):
        self.refused_by = self.why(token)
        if self.refused_by:
            self.refusals[self.refused_by] += 1
        return self.refused_by is None

    def why(self, token):
        if self.tokens and self.tokens[-1] % self.traps == 1:  # a dead end: nothing follows such a token
            return "scope"
        if token in self.ends:
            if len(self.tokens) < 3:
                return "grammar"
            if sum(self.tokens) % self.gate:
                self.gate_error = f"no such column: t{self.tokens[1]}" if self.names else "no such thing"
                return "gate"
            return None
        if len(self.tokens) == 6:
            return "scope"
        last = (0, 0, *self.tokens)[-2:]
        return None if (last[0] * 31 + last[1] * 17 + token * 7) % self.one_in == 0 else "grammar"

    def consume(self, token):
        assert self.why(token) is None
        self.tokens.append(token)

    def rollback(self, n):
        del self.tokens[len(self.tokens) - n :]

    def piece(self, token):
        return b" %d" % token

    def stranded(self, least):
        return 0 if len(self.tokens) > least + 1 and self.tokens[-1] % 11 == 0 else None

    def ending(self, limit):
        """Among a few tokens only, the first that lead to an end."""
        for token in (*sorted(self.ends), *range(0, self.n_tokens, 7)):
            if self.why(token) is not None or limit < 1:
                continue
            if token in self.ends:
                return (token,)
            self.tokens.append(token)
            rest = self.ending(limit - 1)
            self.tokens.pop()
            if rest:
                return (token, *rest)
        return None

    def mask(self):
        return np.array([token in self.ends or self.why(token) is None for token in range(self.n_tokens)])

    @property
    def query(self):
        return " ".join(f"t{token}" for token in self.tokens)

    def token_at(self, offset):
        return self.query[:offset].count(" ")
