"""Drafted questions once more in the words of a local model; what loses a value or a number is thrown away."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from groundql.config import GenerationSettings
from groundql.generating import load_writer
from groundql.projects.golds import Line
from groundql.records import Prompt, Turns

ASK = (
    "Say the same question in other words, as a colleague would ask it. Keep every name, value and number as it is. "
    "Answer with the question alone.\n\n"
)
MAX_NEW_TOKENS = 48
REQUESTS = (
    "count",
    "find",
    "get",
    "give",
    "list",
    "name",
    "return",
    "show",
    "tell",
)  # how a request without ? begins
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_KEPT = re.compile(r"'((?:[^']|'')*)'|\b\d+(?:\.\d+)?\b")


def rephraser(model: str, say: Callable[[str], None]) -> Callable[[Sequence[Line]], list[Line]]:
    """A function from lines to further training lines, one for each gold of the training part at most.

    Raises:
        ModelMissing: nothing of that name, or no weights there.
    """
    writer = load_writer(model)

    def rephrase(lines: Sequence[Line]) -> list[Line]:
        from groundql.decoding.engine import decode

        chosen = list(
            {line.sql: line for line in lines if line.split == "train" and line.source == "drafted"}.values()
        )
        prompts = [_prompt(line, writer.turns) for line in chosen]
        decoded = decode(
            writer.loaded.model,
            writer.loaded.tokenizer,
            prompts,
            writer.turns,
            settings=GenerationSettings(max_new_tokens=MAX_NEW_TOKENS),
        )
        taken = {line.text.lower() for line in lines}
        found = []
        for line, (one,) in zip(chosen, decoded, strict=True):
            text = " ".join(writer.loaded.tokenizer.decode(list(one.ids), skip_special_tokens=True).split())
            if one.stopped and is_same_question(line, text) and text.lower() not in taken:
                taken.add(text.lower())
                found.append(replace(line, question_id=f"{line.question_id}m", text=text))
        say(f"{model} said {len(found)} of {len(chosen)} questions in words that keep their values")
        return found

    return rephrase


def is_same_question(line: Line, text: str) -> bool:
    """Whether `text` may stand for the line's question.

    It asks, where a model may well answer or assert; it is about as long; it has every value that SQL and question share,
    and no number of its own.
    """
    asks = text.endswith("?") or (text.endswith(".") and text.lower().startswith(REQUESTS))
    if (
        not asks
        or not set(_NUMBER.findall(text)) <= set(_NUMBER.findall(line.text))
        or not 0.4 < len(text) / len(line.text) < 2.5
        or "select " in text.lower()
    ):
        return False
    values = [
        found[1].replace("''", "'") if found[1] is not None else found[0]
        for found in _KEPT.finditer(line.sql)
    ]
    return all(value in text for value in values if value in line.text)


def _prompt(line: Line, turns: Turns) -> Prompt:
    prefix = turns.before_system + "You rephrase questions." + turns.after_system
    return Prompt(
        question_id=line.question_id,
        db_id="",
        prefix=prefix,
        suffix=turns.before_user + ASK + line.text + turns.after_user,
        n_tokens=0,
    )
