"""A run that was killed goes on where it stood; another run takes nothing from it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from groundql.pipeline import judge_completions
from groundql.records import Verdict, read_jsonl
from groundql.verdicts.judge import Judging
from groundql.verdicts.resume import NAME, Partial, run_fingerprint
from tests.verdicts.conftest import GOLD, completion, data_of

DATA = data_of([GOLD] * 3)
ANSWERS = [completion(GOLD, "0"), completion("SELECT 1", "1"), completion("hello", "2")]


def test_what_was_judged_is_not_judged_again(tmp_path):
    fingerprint = run_fingerprint(DATA, ANSWERS, Judging())
    with Partial(tmp_path, fingerprint) as partial:
        whole = judge_completions(DATA, ANSWERS, known=partial.known)
        partial.add(whole[0])
        partial.add(whole[1])
    text = (tmp_path / NAME).read_text()
    (tmp_path / NAME).write_text(text + whole[2].model_dump_json()[:40])  # killed while writing
    told = []
    with Partial(tmp_path, fingerprint) as partial:
        assert [verdict.question_id for verdict in partial.known] == ["0", "1"]
        resumed = judge_completions(DATA, ANSWERS, known=partial.known, on_verdict=told.append)
    assert [verdict.question_id for verdict in told] == ["2"]
    assert resumed == whole


@pytest.mark.parametrize("change", ["answers", "settings", "data"])
def test_another_run_begins_anew(tmp_path, change):
    with Partial(tmp_path, run_fingerprint(DATA, ANSWERS, Judging())) as partial:
        partial.add(judge_completions(DATA, ANSWERS)[0])
    answers = ANSWERS[:2] if change == "answers" else ANSWERS
    settings = Judging(deadline_s=1) if change == "settings" else Judging()
    data = data_of(["SELECT 1"]) if change == "data" else DATA
    with Partial(tmp_path, run_fingerprint(data, answers, settings)) as partial:
        assert partial.known == []


@pytest.mark.slow
@pytest.mark.parametrize("split", ["dev", "train"], ids=["by worker processes", "by forked processes"])
def test_a_killed_judge_resumes_and_ends_with_all_verdicts(tmp_path, split):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    from groundql.questions.load import load_data

    questions = load_data(f"pocket#{split}").questions
    lines = [f'{{"question_id": "{q.question_id}", "sql": "SELECT 1"}}' for q in questions[:-1]]
    lines.append(f'{{"question_id": "{questions[-1].question_id}", "sql": "{endless}"}}')
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    command = [
        sys.executable,
        "-c",
        "from groundql.cli import main; main()",
        "judge",
        tmp_path / "p.jsonl",
        "--data",
        f"pocket#{split}",
        "--out",
        tmp_path,
    ]
    command += ["--deadline-s", "4", "--instances", "0", "--timings", "0", "--ladder-only"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if (tmp_path / NAME).is_file() and (tmp_path / NAME).read_text().count("\n") > 30:
            break
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    n_kept = (tmp_path / NAME).read_text().count("\n") - 1
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"resumed: {n_kept} verdicts" in again.stderr
    assert len(read_jsonl(tmp_path / "verdicts.jsonl", Verdict)) == len(questions)
    assert not (tmp_path / NAME).exists()
