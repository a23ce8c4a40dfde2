from pathlib import Path

from groundql.questions.joined import join_data
from groundql.questions.load import load_data
from groundql.records import DatabaseFiles, DataSet, Question


def part(name, *db_ids, split="train"):
    return DataSet(
        spec=name,
        name=name,
        split=split,
        questions=tuple(Question(question_id=str(i), db_id=db, text="?") for i, db in enumerate(db_ids)),
        databases={db: DatabaseFiles(db_id=db, sql_path=Path(name) / f"{db}.sql") for db in db_ids},
    )


def test_questions_of_two_sets_keep_apart_by_their_set_s_name():
    joined = join_data("both", [part("bird", "a", "b"), part("spider", "c")])
    assert [q.question_id for q in joined.questions] == ["bird/0", "bird/1", "spider/0"]
    assert [q.db_id for q in joined.questions] == ["a", "b", "c"]
    assert (joined.name, joined.split) == ("bird+spider", "train+train")


def test_two_databases_of_one_name_stay_two():
    joined = join_data("both", [part("bird", "world"), part("spider", "world")])
    assert [q.db_id for q in joined.questions] == ["world", "spider/world"]
    assert joined.databases["world"].sql_path == Path("bird/world.sql")
    assert joined.databases["spider/world"].sql_path == Path("spider/world.sql")
    assert joined.databases["spider/world"].db_id == "world"  # what its own tables file calls it


def test_two_sets_of_one_format_are_numbered():
    joined = join_data("both", [part("jsonl", "a"), part("jsonl", "a")])
    assert [q.question_id for q in joined.questions] == ["jsonl/0", "jsonl2/0"]
    assert list(joined.databases) == ["a", "jsonl2/a"]


def test_a_name_with_a_plus_is_several_sets():
    one, both = load_data("pocket#dev"), load_data("pocket#dev + pocket#test")
    assert len(both.questions) == len(one.questions) + len(load_data("pocket#test").questions)
    assert len({q.question_id for q in both.questions}) == len(both.questions)
