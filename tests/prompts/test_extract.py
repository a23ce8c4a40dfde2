"""What is taken out of an answer, and what is left."""

import pytest

from groundql.prompts.extract import extract_sql

QUERY = "SELECT name FROM author WHERE country = 'it''s; here'"


@pytest.mark.parametrize(
    "text",
    [
        QUERY,
        f"{QUERY};",
        f"  \n{QUERY} ;\n",
        f"```sql\n{QUERY};\n```",
        f"```\n{QUERY}\n```",
        f"```SQL {QUERY}```",
        f"```{QUERY}```",
        f"```sqlite\n{QUERY}",
        f"~~~sql\n{QUERY}\n~~~",
        f"Sure! Here is the query:\n\n```sql\n{QUERY}\n```\n\nIt selects names; SELECT is a keyword.",
        f"SQL: {QUERY}",
        f"**SQL:** {QUERY}",
        f"Final answer: {QUERY}",
        f"The query is {QUERY}",
        f"`{QUERY}`",
        f"1. {QUERY}",
        f"<think>SELECT wrong FROM thought</think>\n{QUERY}",
        f"<sql>{QUERY}</sql>",
        f"{QUERY}<|im_end|>\n<|im_start|>user",
        f"{QUERY}</s>",
        f"{QUERY}\n\nExplanation: it takes the name.",
        f"{QUERY}\nThis query returns the names.",
        f"{QUERY}; This finds them.",
        f"{QUERY}\n\nQuestion: And the others?\nSQL: SELECT 1",
        f"-- names\n{QUERY}",
        f"/* names */ {QUERY}",
    ],
)
def test_the_query_comes_out_as_it_was_written(text):
    assert extract_sql(text) == QUERY


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a\n\nFROM t\n\n\nWHERE b = 1",
        "SELECT a -- not; the end\nFROM t",
        "SELECT '```', \"<s>\", `;`, [a;b] FROM t",
        "WITH a AS (SELECT 1), b(c) AS (SELECT 2) SELECT * FROM a, b",
        "WITH RECURSIVE `n`(i) AS (SELECT 1) SELECT i FROM n",
        "SELECT DISTINCT a b, c d FROM t",
        "SELECT name author FROM t",
        "SELECT(1)",
        "SELECT*FROM t",
        "(SELECT 1) UNION (SELECT 2)",
        "VALUES (1), (2)",
        "SELECT 1; DROP TABLE book",
        "DELETE FROM book",
        "PRAGMA table_info(book)",
        "ATTACH 'x.db' AS x",
        "EXPLAIN SELECT 1",
        "SELECT a FROM t WHERE b = 'not closed",
    ],
)
def test_a_statement_stays_whole(sql):
    assert extract_sql(sql) == sql


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "hello world",
        "sql placeholder",
        "I cannot answer that from these tables.",
        "Select the rows you want from the list.",
        "Please select one option from the list",
        "With the data at hand nothing can be said.",
        "SELECT",
        "title",
        "42",
        "```\n```",
        "```python\nprint(1)\n```",
        "show me the money",
        "Update: nothing new.",
        "Values matter.",
    ],
)
def test_nothing_like_a_query_gives_none(text):
    assert extract_sql(text) is None


def test_a_very_long_text_is_looked_at_in_a_moment():
    for unit in (
        "[",
        "/*",
        "`",
        "'",
        '"',
        "select ",
        "```",
        "<think>",
        "SELECT x ",
        "with a as (",
        "\n",
        "(",
    ):
        extract_sql("SELECT 1 " + unit * 200_000)
        extract_sql(unit * 200_000)
