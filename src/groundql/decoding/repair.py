"""A second try for a query that failed: the same question with the query and what the engine said about it. Pure."""

from groundql.records import Prompt, Turns

MAX_MESSAGE_CHARS = 300  # an engine may quote the whole query in its message


def repair_prompt(prompt: Prompt, turns: Turns, sql: str, message: str) -> Prompt:
    """`prompt` with the failed query and the engine's message behind the question; the prefix stays, and is shared.

    `n_tokens` is left as it was: what is added is not counted there.
    """
    asked = prompt.suffix.removesuffix(turns.after_user)
    said = " ".join(message.split())[:MAX_MESSAGE_CHARS]
    suffix = f"{asked}\nThis query fails: {sql}\nError: {said}{turns.after_user}"
    return prompt.model_copy(update={"suffix": suffix})
