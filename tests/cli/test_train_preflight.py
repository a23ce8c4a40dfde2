"""What `groundql train` says and refuses before the first step, and that it costs no loading of weights."""

import json
import shutil
from types import SimpleNamespace

import pytest

from groundql import tuning
from groundql.models.load import load_tokenizer
from groundql.models.source import find_base
from groundql.training.run_folder import read_run, write_run
from tests.command import groundql
from tests.small_data import CLUB, DEV, SHOP, TRAIN, write_config
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama")


@pytest.fixture
def config(tmp_path, tiny_dir):
    return write_config(tmp_path, tiny_dir, epochs=1)


@pytest.fixture
def no_weights(monkeypatch):
    """Loading weights fails the test."""

    def load_base(*_, **__):
        raise AssertionError("weights were loaded before the checks were done")

    monkeypatch.setattr(tuning, "load_base", load_base)


def write_rows(folder, name, db_id, rows):
    lines = [{"question": text, "sql": sql, "db_id": db_id, "database": f"{db_id}.sql"} for text, sql in rows]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_checks_are_said_with_labels_and_fingerprint(tmp_path, config):
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert ended.status == 0, ended.stderr
    said = ended.stderr.splitlines()
    assert "no database, question or gold SQL of train stands in dev or test" in said
    assert "training on 8 questions of 1 databases; none shrunk or cut" in said
    for i in (0, 4):
        assert f"trained to write, question {i} on shop: {TRAIN[i][1]}<|im_end|>" in said
    fingerprint = read_run(tmp_path / "run").prompt_fingerprint
    assert (
        f"prompt {fingerprint}, answers end with '<|im_end|>': all labels decode to gold SQL and that" in said
    )
    assert any(line.startswith("disk: up to ") for line in said)
    assert not any("warning" in line for line in said)


def test_the_paper_s_learning_rate_is_warned_of_and_trained_with(tmp_path, config):
    ended = groundql("train", config, "--out", tmp_path / "run", "--set", "training.learning_rate=2e-5")
    assert ended.status == 0
    (warning,) = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert "training.learning_rate 2e-05 is" in warning
    assert "paper's choice" in warning


def test_what_dev_holds_too_is_left_out_and_counted(tmp_path, config):
    shared = ("Everyone", "SELECT name\nFROM product;")  # the gold of "Names of all products"
    asked = ("what does INK cost?", "SELECT COUNT(*) FROM member")
    write_rows(tmp_path, "dev", "club", [*DEV, shared, asked])
    (tmp_path / "club.sql").write_text(CLUB + "CREATE TABLE product (name TEXT);")
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert ended.status == 0, ended.stderr
    assert (
        "left out: 1 asked in dev or test too, 1 whose gold SQL stands there too, 0 whose gold does not bind"
        in ended.stderr
    )
    assert read_run(tmp_path / "run").counts == {
        "train_questions": len(TRAIN) - 2,
        "train_questions_too_long": 0,
        "train_questions_not_in_dialect": 0,
        "left_out_asked_in_dev_or_test": 1,
        "left_out_gold_in_dev_or_test": 1,
    }


def test_questions_with_long_sql_are_left_out_of_training_alone_where_the_settings_say_so(
    tmp_path, config, tiny_dir
):
    tokenizer = load_tokenizer(find_base(tiny_dir))

    def n_tokens(sql):
        return len(tokenizer(sql, add_special_tokens=False).input_ids) + 1  # and the end mark

    longest = n_tokens(TRAIN[1][1])
    kept = [text for text, sql in TRAIN if n_tokens(sql) <= longest]
    assert 1 < len(kept) < len(TRAIN)
    limit = ("--set", f"data.max_sql_tokens={longest}")
    ended = groundql("train", config, "--out", tmp_path / "run", *limit)
    assert ended.status == 0, ended.stderr
    n_long = len(TRAIN) - len(kept)
    assert (
        f"training on {len(kept)} questions of 1 databases; {n_long} left out: SQL longer than data.max_sql_tokens"
        in ended.stderr
    )
    counts = read_run(tmp_path / "run").counts
    assert (counts["train_questions"], counts["train_questions_sql_too_long"]) == (len(kept), n_long)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(
        "eval_loss" in line for line in logged
    )  # dev's SQL is longer, and its loss is there all the same
    ended = groundql("train", config, "--out", tmp_path / "none", "--set", "data.max_sql_tokens=2")
    assert ended.status == 2
    assert "no SQL is as short as data.max_sql_tokens (now 2); raise it" in ended.stderr


def test_golds_that_do_not_bind_are_left_out_and_counted(tmp_path, config):
    write_rows(tmp_path, "train", "shop", [*TRAIN, ("Who?", "SELECT owner FROM product")])
    ended = groundql("train", config, "--out", tmp_path / "raw", "--set", "prompt.dialect=raw")
    assert "1 whose gold does not bind" in ended.stderr
    assert read_run(tmp_path / "raw").counts["left_out_gold_does_not_bind"] == 1
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert "left out: 1 whose gold is not in the canonical dialect" in ended.stderr
    assert read_run(tmp_path / "run").counts["train_questions"] == len(TRAIN)


def test_a_gold_that_binds_only_in_the_dialect_is_trained_on_in_it(tmp_path, config):
    gold = 'SELECT price FROM product WHERE name = "ink"'  # Spider's way to write a string
    write_rows(tmp_path, "train", "shop", [*TRAIN, ("Price of ink?", gold)])
    assert groundql("train", config, "--out", tmp_path / "run").status == 0
    assert read_run(tmp_path / "run").counts["train_questions"] == len(TRAIN) + 1


def test_a_shared_database_is_refused_before_weights_are_loaded(tmp_path, config, no_weights):
    (tmp_path / "club.sql").write_text(SHOP)
    write_rows(tmp_path, "dev", "shop", DEV)
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert ended.status == 2
    assert "train and dev share 1 database(s), such as shop" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_refused_before_weights_are_loaded(tmp_path, config, no_weights, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    ended = groundql("train", config, "--out", tmp_path / "run")
    assert ended.status == 2
    assert "1 MiB free, the checkpoints of this run need" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_in_another_number_of_processes(tmp_path, config):
    groundql("train", config, "--out", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    info = read_run(tmp_path / "run")
    write_run(tmp_path / "run", info.model_copy(update={"counts": {**info.counts, "processes": 2}}))
    ended = groundql("train", "--resume", tmp_path / "run")
    assert ended.status == 2
    assert "was started in 2 process(es), this is 1" in ended.stderr
