"""Questions one after another: of a pipe, of a session, and how an answer is shown."""

import io
import json
import sys
from unittest import mock

import pytest

from groundql.answer import Answer
from groundql.cli.answers import confidence, print_answer, shown_cell
from groundql.cli.session import history_path, run_session
from groundql.records import Outcome, Strain
from tests.command import groundql
from tests.scripted_assistant import ScriptedAssistant
from tests.small_data import shop_file
from tests.tiny import save_tiny


@pytest.fixture
def shop(tmp_path):
    return shop_file(tmp_path)


def session(shop, *lines):
    """What a session prints, with its answers scripted."""
    typed = iter(lines)

    def read(_):
        line = next(typed, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line

    with (
        ScriptedAssistant({"names?": "SELECT name FROM product ORDER BY name", "bad?": "SELECT ghost FROM product"}) as assistant,
        mock.patch("builtins.input", read),
    ):  # fmt: skip
        run_session(assistant, assistant.open(shop), deadline_s=5, max_rows=10)


def test_a_session_answers_line_after_line_and_a_refusal_leaves_the_next(shop, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    session(shop, "what is love?", "^C", "", "bad?", "names?", "\\q", "never read")
    shown = capsys.readouterr()
    assert "SELECT name FROM product ORDER BY name" in shown.out
    assert "ink" in shown.out
    assert "3 rows in" in shown.out
    assert shown.err.count("I can't answer that from this schema") == 2
    assert "interrupted" in shown.out
    assert history_path().is_file()
    assert history_path().stat().st_mode & 0o077 == 0  # questions may be private


def test_a_session_asks_every_question_with_the_evidence_that_was_given(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    heard = []
    with (
        ScriptedAssistant({}) as assistant,
        mock.patch("builtins.input", side_effect=["big ones?", EOFError]),
    ):
        monkeypatch.setattr(assistant, "ask", lambda *_, evidence, **__: heard.append(evidence) or Answer(question="", status="abstained", sql=None, binds=False))  # fmt: skip
        run_session(assistant, assistant.open(shop), evidence="big: above 3", deadline_s=5, max_rows=10)
    assert heard == ["big: above 3"]


def test_json_at_a_terminal_without_a_question_is_told(shop):
    terminal = mock.Mock(isatty=lambda: True)
    with mock.patch.object(sys, "stdin", terminal):
        ended = groundql("ask", shop, "--json", "--model", "no-such-model")
    assert ended.status == 2
    assert "a session prints tables" in ended.stderr


def test_a_session_shows_the_schema_and_runs_a_query_of_ones_own_read_only(
    shop, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    session(shop, "\\schema", "\\sql SELECT COUNT(*) FROM sale", "\\sql DROP TABLE sale", "\\what")
    shown = capsys.readouterr().out
    assert "product: id, name, price" in shown
    assert "1 row in" in shown
    assert "refused" in shown
    assert "Ctrl-D" in shown


def test_lines_of_a_pipe_are_answered_each_and_one_without_an_answer_makes_the_status_1(shop, tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    with mock.patch.object(sys, "stdin", io.StringIO("How many?\n\nWhich one?\n")):
        ended = groundql("ask", shop, "--model", model, "--max-new-tokens", "4", "--json")
    assert ended.status == 1
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [answer["question"] for answer in answers] == ["How many?", "Which one?"]
    assert {answer["status"] for answer in answers} == {"abstained"}


def test_a_line_of_a_pipe_that_cannot_be_asked_leaves_those_after_it(shop, tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    long = "word " * 20_000
    with mock.patch.object(sys, "stdin", io.StringIO(f"{long}\nHow many?\n")):
        ended = groundql("ask", shop, "--model", model, "--max-new-tokens", "4", "--json")
    assert ended.status == 1
    assert [json.loads(line)["status"] for line in ended.stdout.splitlines()] == ["not_asked", "abstained"]


def test_an_abstention_is_said_in_plain_words(shop, tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    ended = groundql("ask", shop, "How many?", "--model", model, "--max-new-tokens", "4")
    assert ended.status == 1
    assert "I can't answer that from this schema: no query was found that binds" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_votes_draw_several_texts_and_say_how_many_agree(shop, tmp_path):
    model = save_tiny(tmp_path / "tiny", "llama")
    ended = groundql(
        "ask", shop, "How many?", "--model", model, "--max-new-tokens", "40", "--votes", "3", "--json"
    )
    answer = json.loads(ended.stdout)
    assert answer["n_samples"] == 3
    assert answer["n_agreeing"] in (0, 1, 2, 3)


OUTCOME = Outcome(
    status="ok", columns=("a",), rows=(("x" * 300,), (None,), ("\x1b[31mred\x07",)), elapsed_s=0.01
)


def test_rows_in_a_pipe_have_no_colour_no_folding_and_nothing_that_steers_a_terminal(capsys):
    print_answer(Answer(question="?", status="answered", sql="SELECT a", binds=True, outcome=OUTCOME))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "x" * 300 in shown
    assert "NULL" in shown
    assert shown.isascii()


@pytest.mark.parametrize(("cell", "text"), [("a\nb", "a\\nb"), (b"\x01\xff", "01ff"), (1.5, "1.5"), ("Zoë", "Zoë"), ("\u202eabc", "\\u202eabc")])  # fmt: skip
def test_control_characters_are_written_out(cell, text):
    assert shown_cell(cell) == text


def test_confidence_names_the_vote_and_how_hard_the_schema_pulled():
    answer = Answer(question="?", status="answered", sql="SELECT 1", binds=True, n_samples=5, n_agreeing=4)
    assert "4 of 5 texts agree" in confidence(answer)
    easy, hard = (answer.model_copy(update={"strain": Strain(total=t, largest=t, at=0)}) for t in (0.05, 3.0))
    assert "held the model back little" in confidence(easy)
    assert "much: read the SQL" in confidence(hard)
