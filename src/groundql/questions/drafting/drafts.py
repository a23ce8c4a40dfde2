"""All drafts of a schema: each template on each table, along each key, and across each bridge between two tables."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from groundql.questions.drafting.across import across_drafts
from groundql.questions.drafting.facts import TableFacts
from groundql.questions.drafting.joined import joined_drafts
from groundql.questions.drafting.shape import Draft, Link
from groundql.questions.drafting.single import single_drafts

__all__ = ["Draft", "draft_questions"]


def draft_questions(facts: Sequence[TableFacts], *, seed: int = 7) -> list[Draft]:
    """Drafts in SQL that SQLite reads, no two with one query; the same each time."""
    by_name = {one.name: one for one in facts}
    found: dict[str, Draft] = {}
    for draft in _all(facts, by_name, seed):
        texts = tuple(dict.fromkeys(" ".join(text.split()) for text in draft.texts))
        found.setdefault(draft.sql, Draft(draft.template, draft.tables, draft.sql, texts, draft.difficulty))
    return list(found.values())


def links_of(facts: Iterable[TableFacts], by_name: dict[str, TableFacts]) -> list[Link]:
    """Each pointer from one table to another that has rows, once; a table that points to itself is left out."""
    found = [
        Link(one, own, by_name[target], theirs)
        for one in facts
        for own, target, theirs in one.links
        if target in by_name and target != one.name
    ]
    return list({(link.child.name, link.own): link for link in found}.values())


def _all(facts: Sequence[TableFacts], by_name: dict[str, TableFacts], seed: int) -> Iterator[Draft]:
    links = links_of(facts, by_name)
    for one in facts:
        yield from single_drafts(one, _random(seed, one.name))
    for link in links:
        yield from joined_drafts(link, _random(seed, link.child.name, link.own))
    for near in links:
        for far in links:
            if near.parent is far.child:
                yield from across_drafts(near, far, _random(seed, near.child.name, far.parent.name))
            elif near.child is far.child and near.own < far.own and near.parent is not far.parent:
                yield from across_drafts(near, far, _random(seed, near.own, far.own))


def _random(seed: int, *names: str) -> Random:
    """A source of its own for each table, so that one table more changes no other's drafts."""
    return Random(hashlib.sha256(repr((seed, names)).encode()).digest())
