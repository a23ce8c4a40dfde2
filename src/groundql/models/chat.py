"""How a model family marks who speaks, read from its own chat template; a plain form where it has none."""

import json
import re
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from groundql.errors import ModelMissing
from groundql.records import Turns

# A base model without a chat template: plain headings; its end-of-text token is learned as the end of the SQL.
PLAIN = {
    "before_system": "",
    "after_system": "\n",
    "before_user": "\n### Question\n",
    "after_user": "\n### SQL\n",
}
_SYSTEM, _USER, _ANSWER = "(the system text)", "(the user text)", "(the answer)"


def turns_of(tokenizer: Any) -> Turns:
    """The marks around system, user and answer, from the tokenizer's chat template or plain.

    The text between system and user is cut where the system's turn ends, which is a special token in the
    known families, so that prefix and suffix tokenise apart as they would together.

    Raises:
        ModelMissing: a template that drops the system text, or a tokenizer without an end-of-text token.
    """
    if not tokenizer.chat_template:
        if not tokenizer.eos_token:
            raise ModelMissing("this tokenizer has neither a chat template nor an end-of-text token")
        return Turns(**PLAIN, end=tokenizer.eos_token)
    system = {"role": "system", "content": _SYSTEM}
    user = {"role": "user", "content": _USER}
    asked = _render(tokenizer, [system, user], add_generation_prompt=True)
    if _SYSTEM not in asked or _USER not in asked:
        raise ModelMissing("this model's chat template drops the system text; GroundQL puts the schema there")
    before_system, rest = asked.split(_SYSTEM)
    between, after_user = rest.split(_USER)
    alone = _render(tokenizer, [system], add_generation_prompt=False)
    cut = len(alone) - len(before_system + _SYSTEM) if asked.startswith(alone) else 0
    answered = _render(
        tokenizer, [system, user, {"role": "assistant", "content": _ANSWER}], add_generation_prompt=False
    )
    after_answer = tokenizer(answered.split(_ANSWER)[1], add_special_tokens=False)["input_ids"]
    end = tokenizer.convert_ids_to_tokens(after_answer[0]) if after_answer else tokenizer.eos_token
    return Turns(
        before_system=before_system,
        after_system=between[:cut],
        before_user=between[cut:],
        after_user=after_user,
        end=end,
    )


def template_of(turns: Turns) -> str:
    """A chat template with the marks of `turns`, for a tokenizer that has none; `turns_of` reads the same marks from it."""
    mark = {name: json.dumps(text, ensure_ascii=False) for name, text in turns.model_dump().items()}
    return (
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        f"{{{{ {mark['before_system']} + message['content'] + {mark['after_system']} }}}}"
        "{% elif message['role'] == 'user' %}"
        f"{{{{ {mark['before_user']} + message['content'] }}}}"
        "{% else %}"
        f"{{{{ {mark['after_user']} + message['content'] + {mark['end']} }}}}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {mark['after_user']} }}}}{{% endif %}}"
    )


def encode_part(tokenizer: Any, text: str, turns: Turns) -> list[int]:
    """Token ids of a prompt's prefix or suffix: special tokens are read in the marks of `turns` and nowhere else.

    What stands between the marks is the user's or the schema's own text: `<|im_end|>` in a question is plain text and
    ends no turn. A text without such a thing tokenises as a whole.
    """
    added = _added_pattern(tokenizer)
    before, after = _marks_of(text, turns)
    own = text[len(before) : len(text) - len(after)]
    if added is None or not added.search(own):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    at = [(match.start(), match.end()) for match in added.finditer(before)]
    offset = len(before) + len(own)
    at += [(offset + match.start(), offset + match.end()) for match in added.finditer(after)]
    ids: list[int] = []
    done = 0
    for start, end in [*at, (len(text), len(text))]:
        ids += encode_plain(tokenizer, text[done:start])
        if end > start:
            ids.append(int(tokenizer.convert_tokens_to_ids(text[start:end])))
        done = end
    return ids


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """Token ids of `text` as plain text: what spells a special token is read letter by letter, none is added."""
    added = _added_pattern(tokenizer)
    cuts = [match.start() + 1 for match in added.finditer(text)] if added else []
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def _added_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Tokens that were added to the vocabulary, but for runs of spaces, which some tokenizers hold there."""
    return _pattern_of(tuple(sorted(tokenizer.get_added_vocab())))


@lru_cache(maxsize=16)
def _pattern_of(added: tuple[str, ...]) -> re.Pattern[str] | None:
    names = sorted((name for name in added if name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None


def _marks_of(text: str, turns: Turns) -> tuple[str, str]:
    """The marks around a prompt's prefix or suffix; none for another text."""
    for before, after in ((turns.before_system, turns.after_system), (turns.before_user, turns.after_user)):
        if text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after):
            return before, after
    return "", ""


def _render(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise ModelMissing(f"this model's chat template cannot hold a system text: {error}") from None
    return str(text)
