"""Verdicts on their way from one process to another: what the other side does not know, in plain values."""

from operator import itemgetter
from typing import Any

from groundql.records import Completion, Question, ResultPreview, Row, Verdict

Parcel = tuple[Any, ...]  # values of `LADDER`, the two previews, the other fields as a dict or None
PreviewParts = tuple[tuple[str, ...], tuple[Row, ...], int]  # the fields of a ResultPreview

SAME = "same"  # both previews are of one result
LADDER = (
    *("extracted", "sqlglot_accepts", "parsed", "read_only", "grounded", "ran", "ex_bird", "ex_strict"),
    *("error", "gold_fault", "rows"),
)
KNOWN = (
    *("question_id", "db_id", "question", "evidence", "gold_sql", "predicted_sql"),
    *("abstained", "strain"),
)
PREVIEWS = ("gold_result", "predicted_result")
BESIDE = tuple(name for name in Verdict.model_fields if name not in LADDER + KNOWN + PREVIEWS)
NOTHING_FOUND = Verdict.unchecked().__dict__  # every field in order
N_LADDER = len(LADDER)
_ladder_values = itemgetter(*LADDER)


def known_fields(question: Question, completion: Completion | None) -> dict[str, Any]:
    """The fields of a verdict that both sides know before anything was found; only the first may change then."""
    fields, answered = question.__dict__, completion.__dict__ if completion else {}  # faster than attributes
    return {
        "difficulty": fields["difficulty"],
        "question_id": fields["question_id"],
        "db_id": fields["db_id"],
        "question": fields["text"],
        "evidence": fields["evidence"],
        "gold_sql": fields["gold_sql"],
        "predicted_sql": answered.get("sql"),
        "abstained": answered.get("status") == "abstained",
        "strain": answered["strain"].total if answered.get("strain") else None,
    }


def packed(verdict: Verdict) -> Parcel:
    """What the other side does not know of a verdict with more than the ladder."""
    fields = verdict.__dict__
    gold, predicted = fields["gold_result"], fields["predicted_result"]
    return (
        *_ladder_values(fields),
        _parts(gold),
        SAME if predicted is gold else _parts(predicted),
        {name: fields[name] for name in BESIDE},
    )


def unpacked(parcel: Parcel, question: Question, completion: Completion | None) -> Verdict:
    """The verdict of which this was found."""
    fields = NOTHING_FOUND.copy()
    fields.update(known_fields(question, completion))
    fields.update(zip(LADDER, parcel, strict=False))  # the previews stand behind
    gold_parts, predicted_parts, beside = parcel[N_LADDER:]
    gold = fields["gold_result"] = _preview(gold_parts)
    fields["predicted_result"] = gold if predicted_parts == SAME else _preview(predicted_parts)
    if beside:
        fields.update(beside)
    return Verdict.from_whole(fields)


def _parts(shown: ResultPreview | None) -> PreviewParts | None:
    return None if shown is None else (shown.columns, shown.rows, shown.n_rows)


def _preview(parts: PreviewParts | None) -> ResultPreview | None:
    if parts is None:
        return None
    columns, rows, n_rows = parts
    return ResultPreview.from_whole({"columns": columns, "rows": rows, "n_rows": n_rows})
