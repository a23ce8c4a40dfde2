"""Checks before the first step, loud and quick: each stands for a way in which fine-tuning silently goes wrong.

`docs/training_failures.md` lists the failures and where each is caught.
"""

import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from groundql.config import Config
from groundql.errors import AskedWrongly
from groundql.models.catalog import BaseModelRow
from groundql.records import DataSet, Prompt, Question, Turns
from groundql.training.examples import Example

IGNORE = -100  # the label that carries no loss
N_SHOWN = 2  # rows whose labels are shown
N_READ_BACK = 50  # prompts that are decoded again
KEPT_CHECKPOINTS = 5  # three, the best, and the one that is being written
PAPER_RATE = 2e-5  # the learning rate of the paper that this project starts from
RATE_FACTOR = 10.0  # a learning rate that far from what suits LoRA is told
_SQL_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|\w+|[^\w\s]")


def check_labels(examples: Sequence[Example], golds: Sequence[str], tokenizer: Any, turns: Turns) -> None:
    """The tokens that carry loss are the gold SQL and the end token, nothing more or less.

    Raises:
        AskedWrongly: a tokenizer that does not give the SQL back, or an end mark that is no single token.
    """
    end = tokenizer.convert_tokens_to_ids(turns.end)
    # Not a test for the unknown token: StarCoder2's end is that too.
    if end is None or tokenizer.convert_ids_to_tokens(end) != turns.end:
        raise AskedWrongly(
            f"the end mark {turns.end!r} is no token of this tokenizer: the model could not learn to stop"
        )
    for example, gold in zip(examples, golds, strict=True):
        decoded = tokenizer.decode(list(example.answer[:-1]))
        if example.answer[-1] != end or decoded != gold:
            raise AskedWrongly(
                f"question {example.question_id}: the labels decode to {decoded!r}, the gold is {gold!r}"
            )


def shown_labels(examples: Sequence[Example], tokenizer: Any) -> list[str]:
    """A line for some examples, spread over all: what the model is trained to write after the prompt."""
    step = max(1, len(examples) // N_SHOWN)
    return [
        f"trained to write, question {e.question_id} on {e.db_id}: {tokenizer.decode(list(e.answer))}"
        for e in examples[::step][:N_SHOWN]
    ]


def check_prompts(examples: Sequence[Example], prompts: Sequence[Prompt], tokenizer: Any) -> None:
    """Token ids of some prompts, spread over all, decode to the whole prompt: nothing was cut, no mark was lost.

    Unicode is compared in its composed form, into which some tokenizers bring it.

    Raises:
        AskedWrongly: names the question and the first place that differs.
    """
    step = max(1, len(examples) // N_READ_BACK)
    for example, prompt in list(zip(examples, prompts, strict=True))[::step]:
        found = _composed(tokenizer.decode(list(example.prefix + example.suffix)))
        wanted = _composed(prompt.prefix + prompt.suffix)
        if found != wanted:
            at = next(
                (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
                min(len(found), len(wanted)),
            )
            raise AskedWrongly(
                f"question {example.question_id}: the prompt's tokens read {found[at : at + 40]!r} where the prompt "
                f"has {wanted[at : at + 40]!r}; this tokenizer does not hold the prompt"
            )


def check_positions(examples: Sequence[Example], row: BaseModelRow | None) -> None:
    """No example is longer than the positions that the model knows.

    Raises:
        AskedWrongly: names the longest and the setting to lower.
    """
    longest = max(examples, key=lambda e: e.n_tokens)
    if row is not None and longest.n_tokens > row.max_positions:
        raise AskedWrongly(
            f"question {longest.question_id} has {longest.n_tokens} tokens, {row.name} knows {row.max_positions} "
            "positions; lower prompt.max_tokens"
        )


def check_batches(batches: Iterable[dict[str, Any]], examples: Sequence[Example]) -> None:
    """In batches as they are trained on, the labels are whole answers, and each stands behind the place it is read at.

    Raises:
        AskedWrongly: says what stands there.
    """
    answers = {example.answer for example in examples}
    ends = {example.answer[-1] for example in examples}
    for batch in batches:
        places = batch["logits_to_keep"].tolist()
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            piece: tuple[int, ...] = ()
            for place, label in zip(places, labels, strict=True):
                if label == IGNORE:
                    continue
                if ids[place + 1] != label:
                    raise AskedWrongly(f"a batch has label {label} where its next token is {ids[place + 1]}")
                piece += (label,)
                if label in ends and piece in answers:
                    piece = ()
            if piece:
                raise AskedWrongly(f"a batch has labels that are no whole answer: {piece[:20]}")


def check_splits(parts: dict[str, DataSet]) -> None:
    """No database stands in two of the parts: a score on a database seen in training says nothing about a new one.

    Raises:
        AskedWrongly: names the parts and the databases they share.
    """
    named = [(name, {q.db_id for q in part.questions}) for name, part in parts.items()]
    for i, (name, databases) in enumerate(named):
        for other, others in named[i + 1 :]:
            shared = sorted(databases & others)
            if shared:
                raise AskedWrongly(
                    f"{name} and {other} share {len(shared)} database(s), such as {shared[0]}: split by database "
                    "(groundql sample --split-databases), or a score would not hold for a new one; for one database of "
                    "your own set data.same_databases = true"
                )


def without_leaks(
    train: Sequence[Question], evaluated: Sequence[Question]
) -> tuple[list[Question], dict[str, int]]:
    """`train` less what `evaluated` holds too, and how many questions that were: by their text, else by their gold.

    Texts are compared without case and spaces, gold SQL without case, spaces and layout but with its literals:
    `SELECT COUNT(*) FROM employee` on another database counts too. Other rows stay.
    """
    asked = {_normal(question.text) for question in evaluated}
    written = {normal_sql(question.gold_sql) for question in evaluated if question.gold_sql}
    kept, counts = [], {"asked": 0, "written": 0}
    for question in train:
        if _normal(question.text) in asked:
            counts["asked"] += 1
        elif question.gold_sql and normal_sql(question.gold_sql) in written:
            counts["written"] += 1
        else:
            kept.append(question)
    return kept, counts


def normal_sql(sql: str) -> str:
    r"""`sql` without what does not change its meaning: layout, case outside quotes, the last semicolon.

    >>> normal_sql("SELECT  Name FROM t\nWHERE a='It''s';") == normal_sql("select name from t where A = 'It''s'")
    True
    >>> normal_sql("SELECT a FROM t WHERE b = 1") == normal_sql("SELECT a FROM t WHERE b = 2")
    False
    """
    tokens = [t if t[0] in "'\"`[" else t.lower() for t in _SQL_TOKEN.findall(sql)]
    while tokens and tokens[-1] == ";":
        tokens.pop()
    return " ".join(tokens)


def suited_rate(config: Config, row: BaseModelRow) -> float:
    """A learning rate that suits LoRA on this model at this scale of the adapter.

    5e-4 * (2000 / hidden)^P at alpha 32, P 0.0775 for Qwen and 0.781 for Llama (Tinker's formula); the update's size
    goes with rate * scale, so another alpha, or rsLoRA's scale, changes the rate the other way. Rank and targets hardly
    matter: the scale is alpha / rank already.
    """
    power = 0.0775 if row.architecture == "qwen2" else 0.781
    lora = config.lora
    scale = lora.alpha / (lora.rank**0.5 if lora.rslora else lora.rank)
    return float(5e-4 * (2000 / row.hidden) ** power * (32 / lora.rank) / scale)


def rate_warning(config: Config, row: BaseModelRow | None) -> str | None:
    """What to say of a learning rate that is far from what suits LoRA; None of one that is near."""
    rate = config.training.learning_rate
    if row is None:
        suited, low, high = 2e-4, 1e-5, 5e-3
    else:
        suited = suited_rate(config, row)
        low, high = suited / RATE_FACTOR, suited * RATE_FACTOR
    if low <= rate <= high:
        return None
    paper = (
        " It is the paper's choice, and one reason why its adapters learn little."
        if rate == PAPER_RATE
        else ""
    )
    factor = suited / rate if rate < suited else rate / suited
    way = "below" if rate < suited else "above"
    return (
        f"warning: training.learning_rate {rate:.3g} is {factor:.0f} times {way} what suits LoRA here, about "
        f"{suited:.2g} ({low:.1g} to {high:.1g} passes).{paper}"
    )


def check_disk(config: Config, row: BaseModelRow, run_dir: Path) -> str:
    """A line that says what the checkpoints will take; they fit the disk.

    A checkpoint holds the adapter and both moments of AdamW, 12 bytes a trainable weight.

    Raises:
        AskedWrongly: they do not fit.
    """
    n_weights = row.n_lora_weights(config.lora.rank, config.lora.targets)
    needed = n_weights * (12 * KEPT_CHECKPOINTS + 4) + 2**24  # and logs, curves, tokenless small files
    place = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise AskedWrongly(
            f"{place} has {free / 2**20:,.0f} MiB free, the checkpoints of this run need {needed / 2**20:,.0f}: "
            "make room, choose another --out, or lower lora.rank"
        )
    return f"disk: up to {needed / 2**20:,.0f} MiB for checkpoints, {free / 2**20:,.0f} free"


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
