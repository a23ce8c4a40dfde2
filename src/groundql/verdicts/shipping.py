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
N_LADDER = len(LADDER)
NOTHING_FOUND = Verdict.unchecked().__dict__  # every field in order
_ladder_values = itemgetter(*LADDER)


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
    fields, asked = NOTHING_FOUND.copy(), question.__dict__  # faster than attributes
    fields["question_id"] = asked["question_id"]
    fields["db_id"] = asked["db_id"]
    fields["difficulty"] = asked["difficulty"]
    fields["question"] = asked["text"]
    fields["evidence"] = asked["evidence"]
    fields["gold_sql"] = asked["gold_sql"]
    if completion is not None:
        answered = completion.__dict__
        fields["predicted_sql"] = answered["sql"]
        fields["abstained"] = answered["status"] == "abstained"
        if answered["strain"]:
            fields["strain"] = answered["strain"].total
    rungs, (gold_parts, predicted_parts, beside) = parcel[:N_LADDER], parcel[N_LADDER:]
    fields["extracted"], fields["sqlglot_accepts"], fields["parsed"], fields["read_only"] = rungs[:4]
    fields["grounded"], fields["ran"], fields["ex_bird"], fields["ex_strict"] = rungs[4:8]
    fields["error"], fields["gold_fault"], fields["rows"] = rungs[8:]
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
