"""Examples with random token ids."""

import random

from groundql.training.examples import Example


def some_examples(n: int = 9, seed: int = 0, *, n_prefixes: int = 3) -> list[Example]:
    chance = random.Random(seed)
    ids = lambda low, high: tuple(chance.randrange(3, 500) for _ in range(chance.randint(low, high)))  # noqa: E731
    prefixes = [ids(10, 40) for _ in range(n_prefixes)]
    return [
        Example(str(i), str(i % n_prefixes), prefixes[i % n_prefixes], ids(2, 12), ids(2, 12))
        for i in range(n)
    ]
