"""Training prompts with a schema's tables in several orders: what a query names is then learned by name, not by place."""

import random
from collections import Counter
from collections.abc import Sequence

from groundql.prompts.render import TABLE
from groundql.records import Prompt, Turns

TRIES = 5  # shuffles for each order that is wanted


def in_table_orders(prompts: Sequence[Prompt], turns: Turns, n_orders: int, seed: int) -> list[Prompt]:
    """The same prompts, those of one schema in turn under at most `n_orders` orders of its tables, the first as it is."""
    orders: dict[str, list[str]] = {}
    n_seen: Counter[str] = Counter()
    found = []
    for prompt in prompts:
        its = orders.get(prompt.prefix)
        if its is None:
            its = orders[prompt.prefix] = table_orders(prompt.prefix, turns, n_orders, seed)
        found.append(prompt.model_copy(update={"prefix": its[n_seen[prompt.prefix] % len(its)]}))
        n_seen[prompt.prefix] += 1
    return found


def table_orders(prefix: str, turns: Turns, n_orders: int, seed: int) -> list[str]:
    """`prefix` under at most `n_orders` distinct orders of its tables, itself first; itself alone where it has one table.

    Each table stays whole. `prefix` is that of a rendered prompt, which ends with the schema.
    """
    first, *tables = prefix.split(TABLE)
    if len(tables) < 2:
        return [prefix]
    tables[-1] = tables[-1].removesuffix(turns.after_system) + "\n"
    chance = random.Random(f"{seed} {prefix}")
    orders = {tuple(tables): prefix}
    for _ in range(TRIES * n_orders):
        if len(orders) == n_orders:
            break
        chance.shuffle(tables)
        text = "".join(TABLE + table for table in tables).removesuffix("\n")
        orders.setdefault(tuple(tables), first + text + turns.after_system)
    return list(orders.values())
