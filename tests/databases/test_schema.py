"""Schemas from files, SQL text and tables.json, and back to DDL."""

import json
from pathlib import Path

import apsw
import pytest

from groundql.databases.binding import prepare, twin_from_ddl
from groundql.databases.describe import csv_descriptions, ddl_comments
from groundql.databases.schema import read_schema, schema_ddl
from groundql.errors import DatabaseMissing, DataError
from groundql.questions.load import load_data
from groundql.records import Column, DatabaseFiles, ForeignKey, Schema, Table

SQL_PATH = Path(__file__).resolve().parents[1] / "golden" / "bookshop.sql"
TABLES_JSON = [
    {
        "db_id": "bookshop",
        "table_names_original": ["Author", "book"],
        "table_names": ["author", "book"],
        "column_names_original": [[-1, "*"], [0, "author_id"], [0, "name"], [1, "book_id"], [1, "AUTHOR_ID"]],
        "column_names": [
            [-1, "*"],
            [0, "author id"],
            [0, "full name of the author"],
            [1, "book id"],
            [1, "writer"],
        ],
        "column_types": ["text", "integer", "text", "integer", "integer"],
        "primary_keys": [1, [3, 4]],
        "foreign_keys": [[4, 1]],
    }
]


def table(schema: Schema, name: str) -> Table:
    return next(found for found in schema.tables if found.name == name)


def column(schema: Schema, table_name: str, name: str) -> Column:
    return next(found for found in table(schema, table_name).columns if found.name == name)


@pytest.fixture
def tables_path(tmp_path: Path) -> Path:
    path = tmp_path / "tables.json"
    path.write_text(json.dumps(TABLES_JSON))
    return path


def test_a_sqlite_file_gives_tables_columns_keys_and_first_values(bookshop):
    schema = read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=bookshop))
    assert [found.name for found in schema.tables] == ["author", "book", "order"]
    assert column(schema, "author", "name").not_null
    assert column(schema, "book", "price").examples == ("10.0", "12.5")
    assert column(schema, "book", "title").examples == ("'Tides'", "'Harbour'")
    assert column(schema, "author", "country").examples == ("'Portugal'", "'Sweden'")
    assert table(schema, "book").foreign_keys == (
        ForeignKey(columns=("author_id",), ref_table="author", ref_columns=("author_id",)),
    )


def test_a_reference_without_columns_means_the_primary_key(bookshop):
    schema = read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=bookshop))
    assert table(schema, "order").foreign_keys[0].ref_columns == ("book_id",)


def test_rows_in_sql_text_count_only_where_the_text_is_said_to_have_them():
    with_rows = read_schema(DatabaseFiles(db_id="b", sql_path=SQL_PATH, sql_has_rows=True))
    without = read_schema(DatabaseFiles(db_id="b", sql_path=SQL_PATH))
    assert column(with_rows, "book", "title").examples == ("'Tides'", "'Harbour'")
    assert column(without, "book", "title").examples == ()
    assert column(without, "author", "name").examples == ("'Ana Costa'",)


def test_synthetic_rows_never_become_examples(bookshop):
    files = DatabaseFiles(db_id="b", sqlite_path=bookshop, sql_path=SQL_PATH, rows="synthetic")
    schema = read_schema(files)
    examples = {c.name: c.examples for found in schema.tables for c in found.columns if c.examples}
    assert examples == {"name": ("'Ana Costa'",)}


def test_long_empty_and_binary_values_are_no_examples(tmp_path):
    path = tmp_path / "v.sqlite"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (a)")
    values = ["", "x" * 41, b"blob", None, "two\nlines", 9e999, "it's", 7]
    for value in values:
        connection.execute("INSERT INTO t VALUES (?)", (value,))
    connection.execute("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    connection.close()
    schema = read_schema(DatabaseFiles(db_id="v", sqlite_path=path), n_examples=9)
    assert column(schema, "t", "a").examples == ("'it''s'", "7")


def test_comments_describe_tables_and_columns():
    schema = read_schema(DatabaseFiles(db_id="b", sql_path=SQL_PATH))
    assert table(schema, "author").description == "people who write"
    assert column(schema, "author", "country").description == "NULL = unknown"
    assert column(schema, "book", "price").description == "in EUR"
    assert column(schema, "book", "stock").description == ""


def test_a_comment_belongs_to_the_column_that_its_line_ends_with():
    sql = """CREATE TABLE t (
        "a, b" TEXT DEFAULT '-- not this', -- first
        `c` DECIMAL(10, 2) CHECK (c > 0), -- example: 'x -- y'
        -- about nothing
        d TEXT, e TEXT, -- the last one
        PRIMARY KEY (d) -- a rule
    )"""
    assert ddl_comments(sql) == (
        "",
        {"a, b": ("first", ""), "c": ("", "'x -- y'"), "e": ("the last one", "")},
    )


def test_tables_json_alone_gives_a_schema(tables_path):
    schema = read_schema(DatabaseFiles(db_id="bookshop", tables_path=tables_path))
    assert table(schema, "book").primary_key == ("book_id", "AUTHOR_ID")
    assert table(schema, "book").foreign_keys[0] == ForeignKey(
        columns=("AUTHOR_ID",), ref_table="Author", ref_columns=("author_id",)
    )
    assert column(schema, "Author", "name").description == "full name of the author"
    assert column(schema, "Author", "author_id").description == ""  # the readable name says nothing new


def test_keys_that_the_file_lacks_come_from_tables_json_in_the_file_s_spelling(tmp_path, tables_path):
    path = tmp_path / "bare.sqlite"
    apsw.Connection(str(path)).execute(
        "CREATE TABLE author (AUTHOR_ID, name); CREATE TABLE Book (book_id, author_id)"
    )
    schema = read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=path, tables_path=tables_path))
    assert table(schema, "author").primary_key == ("AUTHOR_ID",)
    assert table(schema, "Book").foreign_keys == (
        ForeignKey(columns=("author_id",), ref_table="author", ref_columns=("AUTHOR_ID",)),
    )


def test_given_descriptions_come_before_all_others(tmp_path):
    folder = tmp_path / "database_description"
    folder.mkdir()
    (folder / "BOOK.csv").write_text(
        "original_column_name,column_name,column_description,data_format,value_description\n"
        "Price ,,what it costs,real,\nstock,,copies left,integer,0 = sold out\n"
    )
    files = DatabaseFiles(
        db_id="b", sql_path=SQL_PATH, descriptions_dir=folder, descriptions={"Book": {"PRICE": "list price"}}
    )
    schema = read_schema(files)
    assert column(schema, "book", "price").description == "list price"
    assert column(schema, "book", "stock").description == "copies left; 0 = sold out"


def test_description_files_in_windows_encoding_with_broken_lines_are_read(tmp_path):
    head = "original_column_name,column_name,column_description,data_format,value_description\r\n"
    (tmp_path / "t.csv").write_bytes(
        (head + 'a,,"the café\n\nof the town",text,"• x"\r\nb,readable,,text,').encode("cp1252")
    )
    assert csv_descriptions(tmp_path) == {"t": {"a": "the café of the town; • x", "b": "readable"}}


def test_ddl_of_a_schema_makes_a_twin_on_which_the_same_queries_bind(bookshop):
    schema = read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=bookshop))
    again = bookshop.with_name("again.sqlite")
    apsw.Connection(str(again)).execute(schema_ddl(schema))
    twin = read_schema(DatabaseFiles(db_id="bookshop", sqlite_path=again))
    bare = [
        found.model_copy(
            update={
                "description": "",
                "columns": tuple(
                    c.model_copy(update={"examples": (), "description": ""}) for c in found.columns
                ),
            }
        )
        for found in schema.tables
    ]
    assert list(twin.tables) == bare


def test_odd_names_and_types_survive_ddl():
    odd = Table(
        name='a "b"',
        columns=(
            Column(name="select", type="generated always"),
            Column(name="x]y`z", type="varchar(20)"),
            Column(name="price (EUR)", type="decimal(10, 2)"),
            Column(name="größe", type="1st type; DROP"),
            Column(name="plain"),
        ),
    )
    schema = Schema(db_id="odd", tables=(odd,))
    twin_from_ddl(schema_ddl(schema))
    assert prepare(schema, 'SELECT "select", "x]y`z", `price (EUR)`, größe, plain FROM "a ""b"""') is None


def test_no_source_at_all_is_said_so(tmp_path):
    with pytest.raises(DatabaseMissing, match="nowhere"):
        read_schema(DatabaseFiles(db_id="nowhere", sqlite_path=tmp_path / "x.sqlite"))


def test_broken_sources_name_themselves(tmp_path):
    (tmp_path / "bad.sql").write_text("CREATE TABLE (")
    with pytest.raises(DatabaseMissing, match=r"bad\.sql"):
        read_schema(DatabaseFiles(db_id="b", sql_path=tmp_path / "bad.sql"))
    (tmp_path / "tables.json").write_text('[{"db_id": "b", "table_names_original": ["t"]}]')
    with pytest.raises(DataError, match=r"tables\.json"):
        read_schema(DatabaseFiles(db_id="b", tables_path=tmp_path / "tables.json"))
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(DataError, match=r"text\.sqlite"):
        read_schema(DatabaseFiles(db_id="b", sqlite_path=tmp_path / "text.sqlite"))


@pytest.mark.parametrize("name", ["pocket"])
def test_every_pocket_gold_binds_on_the_schema_that_prompts_show(name):
    assert unbound(name) == []


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "n_databases"), [("bird/train#train", 60), ("bird/dev#dev", 11)])
def test_every_bird_gold_binds_on_the_schema_that_prompts_show(shared_data, spec, n_databases):
    data = load_data(f"bird:{shared_data}/{spec}")
    assert len(data.databases) == n_databases
    assert unbound(data.spec) == []


@pytest.mark.slow
@pytest.mark.parametrize(("split", "n_databases", "n_unbound"), [("train", 135, 1443), ("dev", 19, 213)])
def test_every_spider_gold_binds_but_those_with_double_quoted_strings(
    shared_data, split, n_databases, n_unbound
):
    data = load_data(f"spider:{shared_data}/spider#{split}")
    assert len(data.databases) == n_databases
    refused = unbound(data.spec)
    assert len(refused) == n_unbound
    others = [words for words in refused if "should this be a string literal" not in words]
    assert len(others) == (3 if split == "train" else 0)  # the faulty golds of the official release


def unbound(spec: str) -> list[str]:
    """What the engine says of each gold that does not prepare on the DDL of its database's schema."""
    data = load_data(spec)
    schemas = {db_id: read_schema(files) for db_id, files in data.databases.items()}
    said = [prepare(schemas[q.db_id], q.gold_sql or "") for q in data.questions]
    return [words for words in said if words is not None]
