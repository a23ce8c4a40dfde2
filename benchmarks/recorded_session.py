"""A session as a user has it, recorded as it went: from `init` to a question answered in the browser.

    python -m benchmarks.recorded_session duckdb|postgres docs/session.md [--minutes 2] [--judged 12]

Each command is a process of its own in an empty folder; its output goes into the page, long ones with their middle left
out. The part of the page for that database is written anew, the rest stays. What is right is told by running the SQL
that stands beside each question in `recorded_databases`. Needs PostgreSQL, Chromium and pytest beside the extras train,
duckdb, postgres and serve.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.recorded_databases import (
    BAKERY,
    BAKERY_ASKED,
    FERRIES,
    FERRIES_ASKED,
    make_bakery,
    make_ferries,
    reader_role,
)
from groundql.databases.open_database import OpenDatabase
from groundql.records import Verdict, read_jsonl
from tests.postgres_server import postgres_server
from tests.reports.chromium import Chromium

HEAD, TAIL = 14, 10  # lines kept of a long output
N_CLI = 2  # questions asked on the command line; the others in the browser
TITLES = {"duckdb": "A bakery chain in DuckDB", "postgres": "A ferry line in PostgreSQL"}
Asked = list[tuple[str, str, str | None, str]]  # question, where, SQL, what the person saw


class Recorder:
    """Runs commands in one folder and keeps what a reader shall see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Text of the page."""
        self.lines += [*lines, ""]

    def block(self, text: str, kind: str = "") -> None:
        """A code block."""
        self.say(f"```{kind}", *text.strip("\n").splitlines(), "```")

    def run(self, command: str) -> str:
        """Run `groundql COMMAND`, and show it with its output and how long it took."""
        start_s = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "groundql", *shlex.split(command)],
            cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        output = self.shown(ended.stdout)
        status = "" if ended.returncode == 0 else f", exit status {ended.returncode}"
        lines = output.splitlines()
        if len(lines) > HEAD + TAIL + 1:
            n_left_out = len(lines) - HEAD - TAIL
            lines[HEAD:-TAIL] = [f"... ({n_left_out} lines left out)"]
        self.block("\n".join([f"$ groundql {command}", *lines]))
        self.say(f"({time.monotonic() - start_s:.0f} s{status})")
        print(f"{command}: {time.monotonic() - start_s:.0f} s{status}", flush=True)
        return output

    def shown(self, output: str) -> str:
        """Output without this machine's folders."""
        for folder in (self.folder, Path.cwd()):
            output = output.replace(f"{folder}/", "").replace(str(folder), ".")
        return output.replace(str(Path.home()), "~").replace("\r", "")


def record(engine: str, url: str, recorder: Recorder, minutes: float, n_judged: int) -> Asked:
    """From `init` to the questions on the command line."""
    place, name = ("bakery.duckdb", "bakery") if engine == "duckdb" else (url, "ferries")
    recorder.block(BAKERY if engine == "duckdb" else FERRIES, "sql")
    if engine == "postgres":
        recorder.say("The role that is asked with is the one of [engines.md](engines.md), for this schema:")
        recorder.block(reader_role(), "sql")
    recorder.say("### A project")
    recorder.run(f"init {place} --out {name}")
    drafts = (recorder.folder / name / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    recorder.say(f"The first and the last line of `{name}/questions.jsonl`:")
    recorder.block(recorder.shown("\n".join((drafts[0], drafts[-1]))), "json")
    recorder.say("### Training")
    recorder.run(f"train {name}/config.toml --set training.max_minutes={minutes:g} --out {name}/run")
    recorder.say("### How far to trust it")
    n_held_out = sum('"split": "held-out"' in line for line in drafts)
    few, written = f"jsonl:{name}/few.jsonl", f"{name}/judged/predictions.jsonl"
    recorder.run(
        f"sample jsonl:{name}/questions.jsonl#held-out --fraction {n_judged / n_held_out:.2f} --by complexity --out {name}/few.jsonl"
    )
    recorder.run(f"generate {name}/run --data {few} --decoding grounded --max-new-tokens 96 --out {written}")
    recorder.run(f"judge {written} --data {few} --out {name}/judged --workers 1")
    recorder.say(*why_not_run(recorder.folder / name / "judged" / "verdicts.jsonl"))
    recorder.run(f"report {name}/judged")
    recorder.say("### Questions on the command line")
    asked: Asked = []
    for question in list(BAKERY_ASKED if engine == "duckdb" else FERRIES_ASKED)[:N_CLI]:
        command = f'ask {place} "{question}" --model {name}/run --max-new-tokens 96'
        output = recorder.run(command)
        asked.append((question, "command line", _sql_in(output), ""))
    return asked


def why_not_run(verdicts: Path) -> list[str]:
    """What the engine said of each query that bound and did not run to its end; verdicts.jsonl keeps it."""
    fallen = [one for one in read_jsonl(verdicts, Verdict) if one.grounded and one.ran is False]
    if not fallen:
        return ["Every query that bound ran to its end."]
    lines = ["| bound, and did not run to its end | why (`error` in verdicts.jsonl) |", "|---|---|"]
    return lines + [f"| `{_cell(one.predicted_sql or '')}` | {_cell(one.error)} |" for one in fallen]


def _cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "&#124;")


def _sql_in(output: str) -> str | None:
    lines = output.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(("SELECT", "WITH"))]
    if not starts:
        return None
    ends = ("+-", "no rows:", "the model did not end")  # rows, or why there are none
    end = next((i for i in range(starts[0], len(lines)) if lines[i].startswith(ends)), len(lines))
    return " ".join(lines[starts[0] : end])


@contextmanager
def serving(recorder: Recorder, command: str) -> Iterator[tuple[str, list[str]]]:
    """The address of `groundql COMMAND`, and the lines it has written so far."""
    arguments = [sys.executable, "-m", "groundql", *shlex.split(command), "--port", "0"]
    with subprocess.Popen(
        arguments, cwd=recorder.folder, env=recorder.environment, text=True, stderr=subprocess.PIPE
    ) as server:
        try:
            assert server.stderr is not None
            lines: list[str] = []
            while not any(" serves " in line for line in lines):
                line = server.stderr.readline()
                if not line:
                    raise RuntimeError("\n".join(lines))
                lines.append(line.rstrip())
            yield next(line.split()[0] for line in lines if " serves " in line), lines
        finally:
            server.terminate()
            server.wait(60)


def in_browser(engine: str, url: str, recorder: Recorder, picture: Path) -> Asked:
    """Pick the database on the page, ask the rest of the questions, keep the picture of the last one."""
    name, questions = ("bakery", BAKERY_ASKED) if engine == "duckdb" else ("ferries", FERRIES_ASKED)
    command = f"serve bakery.duckdb {url} --model {name}/run --max-new-tokens 96"
    asked: Asked = []
    with (
        serving(recorder, command) as (address, lines),
        tempfile.TemporaryDirectory() as profile,
        Chromium(Path(profile), width=1280, height=860) as page,
    ):
        recorder.block("\n".join([f"$ groundql {command}", *map(recorder.shown, lines)]))
        page.go(address)
        page.wait_for("document.querySelectorAll('#schema .table').length > 0")
        page.run(
            f"(() => {{ const s = document.getElementById('database'); s.value = {name!r};"
            " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )
        table = "loaf" if engine == "duckdb" else "harbour"
        page.wait_for(f"document.getElementById('schema').textContent.includes({table!r})")
        for question in list(questions)[N_CLI:]:
            page.run(
                "document.getElementById('question').value = ''; document.getElementById('question').focus()"
            )
            page.write(question)
            n_asked = page.run("state.asked")
            page.click("#go")
            page.wait_for(f"state.asked > {n_asked} && !document.getElementById('go').disabled", limit_s=180)
            has_sql = not page.run("document.getElementById('query').hidden")
            sql = page.run("document.getElementById('sql').value.replaceAll('\\n', ' ')") if has_sql else None
            said = page.run("document.getElementById('say').textContent")
            asked.append((question, "browser", sql, recorder.shown(str(said))))
            print(f"{question}: {sql or said}", flush=True)
        page.run("document.querySelectorAll('#schema .table')[0].open = true")
        page.run("scrollTo(0, 0); document.activeElement.blur()")
        page.screenshot(picture)
        faults = page.errors
    recorder.say(
        f"The database is picked, {len(asked)} questions are typed in and asked; the picture is of the last. "
        f"Errors in the page: {len(faults)}."
    )
    recorder.say(f"![The last question, as the page shows it]({picture.name})")
    return asked


def table_of(asked: Asked, questions: dict[str, str], place: str) -> tuple[list[str], int]:
    """Lines of the table of what was asked, and how many were right: rows equal to those of the SQL written beforehand."""
    lines, n_right = ["| question | asked | SQL | rows | right |", "|---|---|---|---:|---|"], 0
    with OpenDatabase(place) as database:
        for question, where, sql, said in asked:
            wanted = database.run(questions[question])
            assert wanted.status == "ok", wanted.error
            outcome = database.run(sql) if sql else None
            is_right = outcome is not None and sorted(map(repr, outcome.rows)) == sorted(
                map(repr, wanted.rows)
            )
            n_right += is_right
            rows = "none"
            if outcome is not None:
                is_ok = outcome.status == "ok"
                rows = str(len(outcome.rows)) if is_ok else f"none ({outcome.status}): {outcome.error}"
            shown = _cell(f"`{sql}`" if sql else said or "none was found that binds")
            lines.append(
                f"| {question} | {where} | {shown} | {_cell(rows)} | {'yes' if is_right else 'no'} |"
            )
    return lines, n_right


def put_into(page: Path, engine: str, lines: list[str]) -> None:
    """Write the part of the page that is between this engine's marks anew."""
    begin, end = f"<!-- recorded: {engine} -->", f"<!-- end: {engine} -->"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    page.write_text(before + "\n".join([begin, "", *lines]) + end + after, encoding="utf-8")


def main() -> None:
    """See the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=sorted(TITLES))
    parser.add_argument("page", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    parser.add_argument("--judged", type=int, default=12, help="held-out questions that are judged")
    given = parser.parse_args()
    questions = BAKERY_ASKED if given.engine == "duckdb" else FERRIES_ASKED
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pytest-")))
        make_bakery(folder / "bakery.duckdb")
        (folder / "server").mkdir()
        folder.chmod(0o711)
        url = make_ferries(stack.enter_context(postgres_server(folder / "server")))
        recorder = Recorder(folder)
        recorder.say(f"## {TITLES[given.engine]}")
        asked = record(given.engine, url, recorder, given.minutes, given.judged)
        recorder.say("### In the browser")
        asked += in_browser(given.engine, url, recorder, given.page.parent / f"session-{given.engine}.png")
        place = str(folder / "bakery.duckdb") if given.engine == "duckdb" else url
        lines, n_right = table_of(asked, questions, place)
        recorder.say(f"### What was right: {n_right} of {len(asked)}")
        recorder.say(*lines)
    put_into(given.page, given.engine, recorder.lines)


if __name__ == "__main__":
    main()
