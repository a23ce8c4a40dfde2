"""Several data sets as one: `bird:DIR#train + spider:DIR#train`. Questions and databases keep apart by their set's name."""

from collections.abc import Sequence

from groundql.records import DatabaseFiles, DataSet, Question

SIGN = " + "


def join_data(spec: str, parts: Sequence[DataSet]) -> DataSet:
    """All questions of `parts`, in order, as `name/question_id`.

    A database that two parts call by one name is `name/db_id` in the later one: the two may differ. Parts of one name
    (two JSONL files) are told apart by their place: jsonl, jsonl2.
    """
    names: list[str] = []
    questions: list[Question] = []
    databases: dict[str, DatabaseFiles] = {}
    for part in parts:
        same = sum(name.rstrip("0123456789") == part.name for name in names)
        names.append(part.name if not same else f"{part.name}{same + 1}")
        taken = {db_id: f"{names[-1]}/{db_id}" if db_id in databases else db_id for db_id in part.databases}
        for db_id, files in part.databases.items():
            databases[taken[db_id]] = files
        questions += [
            question.model_copy(
                update={
                    "question_id": f"{names[-1]}/{question.question_id}",
                    "db_id": taken[question.db_id],
                }
            )
            for question in part.questions
        ]
    return DataSet(
        spec=spec,
        name="+".join(names),
        split="+".join(part.split for part in parts),
        questions=tuple(questions),
        databases=databases,
    )
