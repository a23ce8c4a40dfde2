"""Verdicts on their way from one process to another: what the other side does not know, in plain values."""

from typing import Any

from groundql.records import Completion, Question, ResultPreview, Verdict

Parcel = dict[str, Any]

PREVIEWS = ("gold_result", "predicted_result")
SAME = "same"  # both previews are of one result
_DEFAULTS = {name: None if f.is_required() else f.get_default() for name, f in Verdict.model_fields.items()}


def known_fields(question: Question, completion: Completion | None) -> dict[str, Any]:
    """The fields of a verdict that do not depend on what was found."""
    return {
        "question_id": question.question_id,
        "db_id": question.db_id,
        "difficulty": question.difficulty,
        "question": question.text,
        "evidence": question.evidence,
        "gold_sql": question.gold_sql,
        "predicted_sql": completion.sql if completion else None,
        "abstained": completion is not None and completion.status == "abstained",
        "strain": completion.strain.total if completion and completion.strain else None,
    }


def packed(verdict: Verdict, known: dict[str, Any]) -> Parcel:
    """What differs from `known` and from the defaults; previews as tuples."""
    fields = verdict.__dict__
    expected = _DEFAULTS | known
    parcel = {name: value for name, value in fields.items() if value is not expected[name]}
    gold, predicted = fields["gold_result"], fields["predicted_result"]
    if gold is not None:
        parcel["gold_result"] = (gold.columns, gold.rows, gold.n_rows)
    if predicted is not None:
        is_same = predicted is gold
        parcel["predicted_result"] = (
            SAME if is_same else (predicted.columns, predicted.rows, predicted.n_rows)
        )
    return parcel


def unpacked(parcel: Parcel, known: dict[str, Any]) -> Verdict:
    """The verdict that was packed."""
    fields = known | parcel
    gold = parcel.get("gold_result")
    if gold is not None:
        fields["gold_result"] = _preview(gold)
    predicted = parcel.get("predicted_result")
    if predicted is not None:
        fields["predicted_result"] = fields["gold_result"] if predicted == SAME else _preview(predicted)
    return Verdict.unchecked(**fields)


def _preview(parts: tuple[Any, ...]) -> ResultPreview:
    columns, rows, n_rows = parts
    return ResultPreview.unchecked(columns=columns, rows=rows, n_rows=n_rows)
