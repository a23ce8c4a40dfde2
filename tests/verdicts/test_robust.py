"""Matches that hold by luck are found out on changed copies; copies are made the same each time."""

import apsw
import pytest

from groundql.databases.executor import Executor
from groundql.databases.files import sqlite_file
from groundql.databases.mutate import write_mutant
from groundql.databases.schema import read_schema
from groundql.pipeline import judge_completions
from groundql.verdicts.judge import Judging
from groundql.verdicts.robust import robust_pairs
from tests.verdicts.conftest import BOOKSHOP, completion, data_of


@pytest.fixture
def shop():
    return sqlite_file(BOOKSHOP)


def content(path):
    connection = apsw.Connection(str(path))
    return {t: connection.execute(f'SELECT * FROM "{t}"').fetchall() for t in ("author", "book", "order")}


def test_a_copy_differs_from_its_source_and_is_the_same_for_the_same_seed(shop, tmp_path):
    before = shop.read_bytes()
    copies = []
    for number, seed in enumerate((1, 1, 2)):
        target = tmp_path / f"{number}.sqlite"
        write_mutant(shop, target, seed=seed, constants={("book", "price"): [99.0]})
        copies.append(content(target))
    assert copies[0] == copies[1] != copies[2]
    assert copies[0] != content(shop)
    assert shop.read_bytes() == before


def test_copies_keep_rules_and_keys_of_the_schema(shop, tmp_path):
    values = set()
    for seed in range(30):
        target = tmp_path / f"{seed}.sqlite"
        write_mutant(shop, target, seed=seed, constants={("book", "stock"): [77]})
        rows = content(target)
        assert all(name is not None for _, name, _ in rows["author"])  # NOT NULL
        assert {row[0] for row in rows["book"]} <= set(range(1, 9))
        values |= {row[4] for row in rows["book"]}
    assert {76, 77, 78} <= values  # near the constant of a query


def test_luck_is_found_out_and_truth_holds(shop):
    pairs = [
        ("SELECT COUNT(*) FROM book", "SELECT 4"),
        (
            "SELECT title FROM book WHERE price = 10",
            "SELECT title FROM book WHERE title IN ('Tides', 'Snow')",
        ),
        ("SELECT MAX(stock) FROM book", "SELECT stock FROM book WHERE title = 'Snow'"),
        ("SELECT title FROM book WHERE price > 10", "SELECT b.title FROM book b WHERE NOT b.price <= 10"),
        ("SELECT COUNT(*) FROM book", "SELECT SUM(1) FROM book"),
    ]
    with Executor() as executor:
        held = robust_pairs(
            shop,
            read_schema(BOOKSHOP),
            pairs,
            executor,
            n_instances=8,
            seed=1,
            deadline_s=5,
            max_rows=1000,
        )
    assert held == [False, False, False, True, True]


def test_verdicts_say_which_matches_fall():
    golds = ["SELECT COUNT(*) FROM book"] * 3
    answers = [
        completion("SELECT 4", "0"),
        completion("SELECT COUNT(book_id) FROM book", "1"),
        completion("SELECT 5", "2"),
    ]
    verdicts = judge_completions(data_of(golds), answers, Judging(n_instances=5))
    assert [verdict.ex_strict for verdict in verdicts] == [True, True, False]
    assert [verdict.robust for verdict in verdicts] == [False, True, False]
    assert judge_completions(data_of(golds), answers)[0].robust is None
