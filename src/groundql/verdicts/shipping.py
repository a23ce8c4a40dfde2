"""Verdicts on their way from one process to another: what the other side does not know, in plain values."""

from operator import itemgetter
from typing import Any

from groundql.records import Completion, Question, ResultPreview, Verdict

Parcel = tuple[Any, ...]  # values of `SHIPPED`, then the two previews

SAME = "same"  # both previews are of one result


def known_fields(question: Question, completion: Completion | None) -> dict[str, Any]:
    """The fields of a verdict that both sides know before anything was found; only the first may change then."""
    return {
        "difficulty": question.difficulty,
        "question_id": question.question_id,
        "db_id": question.db_id,
        "question": question.text,
        "evidence": question.evidence,
        "gold_sql": question.gold_sql,
        "predicted_sql": completion.sql if completion else None,
        "abstained": completion is not None and completion.status == "abstained",
        "strain": completion.strain.total if completion and completion.strain else None,
    }


KNOWN = (
    *("question_id", "db_id", "question", "evidence", "gold_sql", "predicted_sql"),
    *("abstained", "strain"),
)
PREVIEWS = ("gold_result", "predicted_result")
SHIPPED = tuple(name for name in Verdict.model_fields if name not in KNOWN + PREVIEWS)
_shipped_values = itemgetter(*SHIPPED)


def packed(verdict: Verdict) -> Parcel:
    """What the other side does not know; previews as tuples."""
    fields = verdict.__dict__
    gold, predicted = fields["gold_result"], fields["predicted_result"]
    return (
        *_shipped_values(fields),
        (gold.columns, gold.rows, gold.n_rows) if gold is not None else None,
        SAME
        if predicted is gold
        else (predicted.columns, predicted.rows, predicted.n_rows)
        if predicted is not None
        else None,
    )


def unpacked(parcel: Parcel, known: dict[str, Any]) -> Verdict:
    """The verdict that was packed."""
    *_, gold_parts, predicted_parts = parcel
    gold = _preview(gold_parts)
    known.update(zip(SHIPPED, parcel, strict=False))  # the previews stand behind
    known["gold_result"] = gold
    known["predicted_result"] = gold if predicted_parts == SAME else _preview(predicted_parts)
    return Verdict.filled(known)


def _preview(parts: tuple[Any, ...] | None) -> ResultPreview | None:
    if parts is None:
        return None
    columns, rows, n_rows = parts
    return ResultPreview.filled({"columns": columns, "rows": rows, "n_rows": n_rows})
