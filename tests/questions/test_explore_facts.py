"""The facts of a small data set, counted by hand."""

from collections.abc import Sequence

from groundql.questions.explore import Exploration, explore, spread
from groundql.records import Column, DatabaseFiles, DataSet, Question, Schema, Table

SHOP = Schema(db_id="shop", tables=(Table(name="sale", columns=(Column(name="id"), Column(name="day"))),))
QUESTIONS = (
    Question(question_id="0", db_id="shop", text="ab", gold_sql="SELECT id FROM sale", difficulty="simple"),
    Question(
        question_id="1", db_id="shop", text="AB ", evidence="xyz", gold_sql="SELEC id", difficulty="simple"
    ),
    Question(
        question_id="2",
        db_id="shop",
        text="abcd",
        evidence="xyzxyz",
        gold_sql="SELECT MAX(id) FROM sale WHERE day IN (SELECT day FROM sale)",
        difficulty="moderate",
    ),
    Question(question_id="3", db_id="zoo", text="abcdef"),
)
DATA = DataSet(
    spec="jsonl:x",
    name="jsonl",
    split="x",
    questions=QUESTIONS,
    databases={
        "shop": DatabaseFiles(db_id="shop", rows="synthetic"),
        "zoo": DatabaseFiles(db_id="zoo", rows="none"),
    },
)


def facts() -> Exploration:
    return explore(DATA, {"shop": SHOP}, {"shop": "0123456789"})


def test_questions_are_counted_by_category() -> None:
    found = facts()
    assert (found.n_questions, found.n_databases, found.n_with_evidence, found.n_with_gold) == (4, 2, 2, 3)
    assert found.by_difficulty == {"simple": 2, "moderate": 1, "": 1}
    assert found.by_shape == {"one table": 1, "nested": 1}
    assert found.difficulty_by_shape == {"simple": {"one table": 1}, "moderate": {"nested": 1}, "": {}}
    assert found.rows == {"synthetic": 1, "none": 1}


def test_a_text_repeated_on_one_database_is_counted_once() -> None:
    assert facts().n_repeated_texts == 1


def test_golds_that_do_not_parse_are_named_and_left_out_of_complexity() -> None:
    parts = facts().complexity
    assert (parts.n_parsed, parts.not_parsed) == (2, ("1",))
    assert (parts.tables, parts.joins, parts.depth) == ({1: 2}, {0: 2}, {1: 1, 2: 1})
    assert parts.clauses == {"WHERE": 1}
    assert parts.functions == {"MAX": 1}
    assert (parts.n_with_subquery, parts.n_with_window) == (1, 0)


def test_databases_come_with_their_size_and_without_where_there_is_no_schema() -> None:
    shop, zoo = facts().databases
    assert (shop.db_id, shop.n_questions, shop.n_tables, shop.n_columns, shop.schema_length) == (
        "shop",
        3,
        1,
        2,
        10,
    )
    assert (zoo.db_id, zoo.n_questions, zoo.n_tables, zoo.schema_length) == ("zoo", 1, None, None)


def test_lengths_are_characters_where_no_tokenizer_is_named() -> None:
    lengths = facts().lengths
    assert (lengths.unit, lengths.tokenizer) == ("characters", "")
    assert (lengths.question.smallest, lengths.question.largest) == (2, 6)
    assert lengths.evidence is not None
    assert (lengths.evidence.n, lengths.evidence.largest) == (2, 6)
    assert lengths.whole is not None
    assert (lengths.whole.n, lengths.whole.smallest) == (3, 10 + len("AB ") + len("xyz") + len("SELEC id"))


def test_lengths_are_tokens_of_the_named_tokenizer() -> None:
    def count_words(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    found = explore(DATA, {"shop": SHOP}, {"shop": "a b c"}, measure=count_words, tokenizer="words")
    assert (found.lengths.unit, found.lengths.tokenizer) == ("tokens", "words")
    assert found.databases[0].schema_length == 3
    assert found.lengths.whole is not None
    assert found.lengths.whole.largest == 3 + 1 + 1 + 11  # the third question and its SQL
    assert found.lengths.within[512] == 3
    assert found.evidence_characters is not None
    assert found.evidence_characters.largest == 6  # evidence is sampled by characters, whatever the tokenizer


def test_evidence_buckets_cover_all_questions() -> None:
    buckets = facts().evidence_buckets
    assert [(b.smallest, b.largest, b.n_questions) for b in buckets] == [(0, 0, 2), (3, 3, 1), (6, 6, 1)]


def test_every_length_falls_into_a_bin_and_the_last_takes_the_tail() -> None:
    found = spread([*range(1, 100), 10_000])
    assert found is not None
    assert (found.p99, found.largest) == (99, 10_000)
    assert sum(found.bin_counts) == found.n == 100
    assert found.bin_edges[-1] < 200


def test_equal_lengths_make_one_bin() -> None:
    found = spread([7, 7, 7])
    assert found is not None
    assert (found.bin_edges, found.bin_counts) == ((7.0, 8.0), (3,))
    assert spread([]) is None


def test_facts_survive_json() -> None:
    found = facts()
    assert Exploration.model_validate_json(found.model_dump_json()) == found
