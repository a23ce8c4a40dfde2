"""Which drafts are trained on and which are held out: no query's pattern on the same tables stands on both sides.

A pattern is a template on one combination of tables. Patterns are dealt out whole, so a held-out question is never a
training question with another value or in other words. Some templates are held out on all tables, and where there are
enough one combination of tables is with all templates.
"""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from groundql.questions.drafting.shape import Draft

SPLITS = ("train", "dev", "held-out")
HELD_TEMPLATES = 0.08  # of the templates: they are never trained on
HELD_OUT, DEV = 0.2, 0.1  # of the drafts, or a little more
TRAIN = 0.5  # at least, before a pattern is held out: a database with two drafts has one to train on
MANY_JOINS = 4  # combinations of tables from which one can be spared
KEPT = frozenset(
    ("count", "list", "parent_count", "list_where", "count_where")
)  # what any question builds on


def split_drafts(drafts: Sequence[Draft], *, seed: int = 7) -> list[str]:
    """The split of each draft, in their order; the same each time."""
    random = Random(seed)
    patterns: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for i, draft in enumerate(drafts):
        patterns[draft.template, draft.tables].append(i)
    templates = sorted({template for template, _ in patterns} - KEPT)
    n_held = round(HELD_TEMPLATES * len(templates))
    held = set(random.sample(templates, n_held)) if len(templates) > 8 else set()
    splits = ["train"] * len(drafts)
    joins = sorted({tables for _, tables in patterns if len(tables) > 1})
    held_tables = random.choice(joins) if len(joins) >= MANY_JOINS else None
    n_taken = {"held-out": 0, "dev": 0}

    def take(split: str, members: list[int]) -> None:
        n_taken[split] += len(members)
        for i in members:
            splits[i] = split

    rest = []
    for pattern in random.sample(sorted(patterns), len(patterns)):
        if pattern[0] in held or pattern[1] == held_tables:
            take("held-out", patterns[pattern])
        else:
            rest.append(pattern)
    for pattern in rest:
        left = splits.count("train") - len(patterns[pattern])
        for split, share in (("held-out", HELD_OUT), ("dev", DEV)):
            if n_taken[split] < share * len(drafts) and left >= TRAIN * len(drafts):
                take(split, patterns[pattern])
                break
    return splits
