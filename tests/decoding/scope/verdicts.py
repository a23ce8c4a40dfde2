"""The tracker's verdict on a text, read a character at a time."""

import random

from groundql.decoding.scope import ScopeTracker


def verdict(tracker: ScopeTracker, text: str) -> str | None:
    """Why `text` is refused, as a prefix somewhere or as a whole; None where it is accepted throughout."""
    state = tracker.start()
    for at, character in enumerate(text):
        following = tracker.advance(state, character)
        if following is None:
            return f"after {text[:at]!r}: {tracker.why_not(state, character)}"
        state = following
    return tracker.refusal(state)


def pieces_of(text: str, rng: random.Random) -> list[str]:
    """`text` cut at random places."""
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(len(text) + 1)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
