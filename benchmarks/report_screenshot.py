"""The picture of the report page in docs/: a judged run on pocket's dev questions, with damaged gold as predictions.

    python benchmarks/report_screenshot.py docs/report.png

Two runs, so that the page shows a comparison: in `a` three of ten predictions are the gold itself, in `b` five; the
others carry one kind of fault each, by turns. No model wrote them. Needs Chromium.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from groundql.pipeline import judge_completions
from groundql.questions.load import load_data
from groundql.records import Completion, write_jsonl
from groundql.reports.page import write_report
from groundql.verdicts.judge import Judging

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1180,1500"


def damaged(sql: str, kind: int) -> str:
    """The gold with one fault; kinds from 7 on are the gold itself."""
    if kind == 0:
        return re.sub(r"(?i)^\s*select\s+", "SELECT no_such_column, ", sql, count=1)
    if kind == 1:
        return re.sub(r"\b\d+\b|'[^']*'", "'other'", sql, count=1)
    if kind == 2:
        return "I cannot answer this from the tables given."
    if kind == 3:
        return re.sub(r"(?i)\bfrom\s+\w+", "FROM no_such_table", sql, count=1)
    if kind == 4:
        return f"SELECT COUNT(*) FROM ({sql})"
    if kind == 5:
        return sql.replace("(", "((", 1) if "(" in sql else sql + " WHERE"
    return f"{sql} UNION ALL {sql}" if kind == 6 and "ORDER" not in sql.upper() else sql


def main() -> None:
    target = Path(sys.argv[1])
    data = load_data("pocket#dev")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / "a", Path(name) / "b"]
        for folder, n_more in zip(folders, (0, 2), strict=True):
            completions = []
            for number, question in enumerate(data.questions):
                kind = number * 7 % 10
                text = damaged(question.gold_sql or "", kind if kind >= n_more else 9)
                sql = None if kind == 2 else text
                completions.append(
                    Completion(question_id=question.question_id, db_id=question.db_id, text=text, sql=sql)
                )
            verdicts = judge_completions(data, completions, Judging(n_instances=3))
            write_jsonl(folder / "verdicts.jsonl", verdicts)
        page = write_report(folders, Path(name) / "out")
        browser = next(filter(None, map(shutil.which, CHROMIUM)))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={SIZE}", f"--screenshot={target.resolve()}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
