"""The data that the page's script works on: every question, prompt and prefix once."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from groundql.records import Cell, Completion, ResultPreview, Verdict
from groundql.reports.causes import CHAIN, UNDECIDED, cause, fell_at
from groundql.reports.runs import JudgedRun
from groundql.reports.sql_features import sql_features
from groundql.reports.tally import FAULTS, LADDER

Entry = dict[str, Any]
FLAGS = (*LADDER, *FAULTS)  # the order of the letters in an entry's `passed`

features_of = lru_cache(maxsize=None)(sql_features)


class _Store:
    """Texts that many questions share, by number."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))

    def values(self) -> list[Any]:
        return list(self.numbers)


def top_rung(runs: Sequence[JudgedRun]) -> str:
    """The highest rung of the ladder that any run could decide: what `right` means on this page."""
    decided = [
        name for name in CHAIN if any(getattr(v, name) is not None for run in runs for v in run.verdicts)
    ]
    return decided[-1]


def browse_data(runs: Sequence[JudgedRun]) -> Entry:
    """Questions of all runs in the first run's order, with what each run made of them."""
    rungs = CHAIN[: CHAIN.index(top_rung(runs)) + 1]
    prefixes, prompts, features = _Store(), _Store(), _Store()
    questions: dict[tuple[str, str, str], Entry] = {}
    for number, run in enumerate(runs):
        for verdict in run.verdicts:
            key = (verdict.question_id, verdict.db_id, verdict.question)
            if key not in questions:
                questions[key] = _question_entry(verdict, len(runs), features)
            questions[key]["runs"][number] = _run_entry(
                verdict, run, questions[key], rungs, prefixes, prompts
            )
    return {
        "runs": [run.label for run in runs],
        "flags": FLAGS,
        "chain": rungs,
        "features": features.values(),
        "prefixes": prefixes.values(),
        "prompts": prompts.values(),
        "questions": list(questions.values()),
    }


def embed_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever its texts say.

    `<`, `>` and `&` are escaped, so no `</script>`, `<!--` or `]]>` can be formed; half characters (lone
    surrogates) become JSON escapes.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shown_cell(cell: Cell) -> Any:
    """A cell as the page reads it: None, text as a string, anything else as a list of one string.

    Numbers go as text: JavaScript would round 2**60 + 1 and print 1.0 as 1.
    """
    if cell is None or isinstance(cell, str):
        return cell
    return [f"x'{cell.hex()}'" if isinstance(cell, bytes) else repr(cell)]


def _question_entry(verdict: Verdict, n_runs: int, features: _Store) -> Entry:
    return {
        "id": verdict.question_id,
        "db": verdict.db_id,
        "difficulty": verdict.difficulty,
        "text": verdict.question,
        "evidence": verdict.evidence,
        "gold": verdict.gold_sql,
        "gold_fault": verdict.gold_fault,
        "gold_result": _shown_result(verdict.gold_result),
        "features": [features.number(name) for name in features_of(verdict.gold_sql)]
        if verdict.gold_sql
        else [],
        "runs": [None] * n_runs,
    }


def _run_entry(
    verdict: Verdict, run: JudgedRun, question: Entry, rungs: Sequence[str], prefixes: _Store, prompts: _Store
) -> Entry:
    fell = fell_at(verdict, rungs)
    entry: Entry = {
        "sql": verdict.predicted_sql,
        "passed": "".join(_letter(getattr(verdict, name, None)) for name in FLAGS),
        "fell": fell if fell in ("", UNDECIDED) else rungs.index(fell),
        "cause": cause(verdict, rungs),
    }
    optional: Entry = {
        "error": verdict.error,
        "findings": list(verdict.findings),
        "strain": None if verdict.strain is None else f"{verdict.strain:.3g}",
        "result": _shown_result(verdict.predicted_result),
    }
    if verdict.gold_sql != question["gold"]:
        optional["gold"] = verdict.gold_sql
    prompt = run.prompts.get(verdict.question_id)
    if prompt is not None:
        optional["prompt"] = prompts.number((prefixes.number(prompt.prefix), prompt.suffix, prompt.n_tokens))
    completion = run.completions.get(verdict.question_id)
    if completion is not None:
        optional |= _completion_entry(completion)
    return entry | {key: value for key, value in optional.items() if value not in ("", None, [])}


def _completion_entry(completion: Completion) -> Entry:
    return {
        "text": completion.text if completion.text.strip() != (completion.sql or "").strip() else "",
        "tokens": [completion.n_prompt_tokens, completion.n_new_tokens] if completion.n_new_tokens else None,
        "cut": None if completion.stopped else True,
        "shrunk": list(completion.shrunk),
    }


def _letter(passed: bool | None) -> str:
    return "-" if passed is None else "1" if passed else "0"


def _shown_result(result: ResultPreview | None) -> Entry | None:
    if result is None:
        return None
    rows = [[shown_cell(cell) for cell in row] for row in result.rows]
    return {"columns": result.columns, "rows": rows, "n": result.n_rows}
