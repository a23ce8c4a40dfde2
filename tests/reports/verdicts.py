"""Verdicts made by hand: a prediction that climbs up to one rung."""

from typing import Any

from groundql.records import Verdict
from groundql.reports.causes import CHAIN


def climbed(question_id: str | int, up_to: str = "ex_strict", **changes: Any) -> Verdict:
    """A verdict that passes every rung up to `up_to`, and no other; "" passes none."""
    last = CHAIN.index(up_to) if up_to else -1
    passed = {name: place <= last for place, name in enumerate(CHAIN)}
    fields: dict[str, Any] = {
        "question_id": str(question_id),
        "db_id": "shop",
        "question": f"Question {question_id}?",
        "gold_sql": "SELECT 1",
        "predicted_sql": "SELECT 1" if last >= 0 else None,
        "sqlglot_accepts": last >= 0,
        **passed,
    }
    return Verdict(**fields | changes)
