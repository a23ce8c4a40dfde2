"""A data set from its name: `pocket#dev`, `bird:DIR#train`, `spider:DIR#dev`, `jsonl:FILE#test`, or several with " + "."""

from pathlib import Path

from groundql.errors import DatabaseMissing, DataError
from groundql.questions.bird import HUB_NAME, load_bird
from groundql.questions.entries import did_you_mean
from groundql.questions.joined import SIGN, join_data
from groundql.questions.jsonl import load_jsonl
from groundql.questions.layout import has_schema
from groundql.questions.pocket import load_pocket
from groundql.questions.spider import load_spider
from groundql.records import DataSet

FORMATS = ("pocket", "bird", "spider", "jsonl")
FORMS = "pocket#dev, bird:DIR#train, bird:hub@DIR#train, spider:DIR#dev, jsonl:FILE or jsonl:FILE#SPLIT"


def load_data(spec: str, *, needs_schemas: bool = True) -> DataSet:
    """The data set that `spec` names: questions of one split and where their databases lie.

    DIR of bird and spider may also be a question file. Only `bird:hub#train` comes without schemas, and only where
    `needs_schemas` is False. DataError names the file, the line and the next step for anything that cannot be read;
    DatabaseMissing for a question whose database has no schema.
    """
    if SIGN in spec:
        parts = [load_data(part.strip(), needs_schemas=needs_schemas) for part in spec.split(SIGN)]
        return join_data(spec, parts)
    data_format, place, split = split_spec(spec)
    if data_format == "pocket":
        data = load_pocket(spec, split)
    elif data_format == "jsonl":
        data = load_jsonl(spec, place, split)
    else:
        data = (load_bird if data_format == "bird" else load_spider)(spec, place, split)
    if needs_schemas and not all(has_schema(files) for files in data.databases.values()):
        raise DatabaseMissing(
            f"{HUB_NAME} has questions but no schemas; write bird:hub@DIR#train, where DIR is BIRD's train folder "
            "with train_tables.json and, where they are, train_databases/"
        )
    return data


def split_spec(spec: str) -> tuple[str, str, str]:
    """Format, place and split ("" where none is given) of a DATA argument. A path may itself hold a `#`."""
    data_format, colon, rest = spec.partition(":")
    if not colon:
        data_format, _, split = spec.partition("#")
        if data_format == "pocket":
            return data_format, "", split
        raise _unknown(spec, data_format)
    if data_format not in FORMATS:
        raise _unknown(spec, data_format)
    if data_format == "pocket":
        raise DataError(
            f"{spec!r}: pocket is shipped and takes no path; write pocket, pocket#train, pocket#dev or pocket#test"
        )
    if Path(rest).expanduser().exists():
        place, split = rest, ""
    else:
        place, _, split = rest.partition("#") if rest.count("#") < 2 else rest.rpartition("#")
    if not place:
        raise DataError(f"{spec!r} names no folder or file; DATA is {FORMS}")
    return data_format, place, split


def _unknown(spec: str, data_format: str) -> DataError:
    path = Path(spec.partition("#")[0]).expanduser()
    if path.exists():
        guess = f"jsonl:{path}" if path.suffix == ".jsonl" else f"bird:{path}#dev or spider:{path}#dev"
        return DataError(f"{spec!r} names no format; write {guess}")
    if data_format in FORMATS:
        return DataError(f"{spec!r} names no folder or file; DATA is {FORMS}")
    return DataError(
        f"{spec!r}: {data_format!r} is not a data format{did_you_mean(data_format, list(FORMATS))}"
    )
