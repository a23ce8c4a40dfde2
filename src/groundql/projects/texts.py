"""The config and the README of a project folder."""

from collections import Counter

from groundql.models.catalog import DEFAULT_MODEL
from groundql.records import Dialect

SETTINGS = """
[prompt]
n_examples = {n_examples}                   # example values a column
values = {values}                       # values of the rows that the question mentions
max_tokens = {max_tokens}

[lora]
rank = 32
alpha = 64

[training]
epochs = 3
packing = "shared"
{training}select_by = "last"

[generation]
max_new_tokens = {max_new_tokens}
"""
SMALL = SETTINGS.format(
    n_examples=1,
    values=3,
    max_tokens=2048,
    max_new_tokens=160,
    training="""pack_tokens = 1024
group_size = 12
learning_rate = 2e-3             # what docs/log.md found for this small model
schedule = "linear"
max_minutes = 10                 # of training on a CPU; without a limit: remove the line
""",
)
LARGE = SETTINGS.format(
    n_examples=2,
    values=5,
    max_tokens=4096,
    max_new_tokens=256,
    training="""learning_rate = 2e-4
schedule = "cosine"
""",
)


def config_text(spec: str, base: str, test_split: str, *, has_dev: bool) -> str:
    """config.toml: which questions are trained on, and settings that suit the size of the model."""
    name = base.replace("\\", "\\\\").replace('"', '\\"')
    place = spec.replace("\\", "\\\\").replace('"', '\\"')
    dev = (
        f'dev = "{place}#dev"                 # the loss is watched on these\ndev_limit = 48\n'
        if has_dev
        else ""
    )
    return (
        "# What `groundql train` reads. Paths are absolute: change them when the folder moves.\n\n"
        f'[model]\nname = "{name}"\nquantization = "nf4"\n\n'
        f'[data]\ntrain = "{place}#train"\n{dev}'
        f'test = "{place}#{test_split}"       # for the report; nothing is chosen by it\n'
        "same_databases = true            # trained on and asked: scores hold for this database alone\n"
        + (SMALL if base == DEFAULT_MODEL else LARGE)
    )


def readme_text(
    n_of: Counter[tuple[str, str]], left_out: Counter[str], test_split: str, dialect: Dialect, folder: str
) -> str:
    """README.md: what lies here, what to do, and what the questions can and cannot show."""
    engine = {"sqlite": "SQLite", "duckdb": "DuckDB", "postgres": "PostgreSQL"}[dialect]
    counts = "\n".join(
        f"| {split} | {source} | {n} | {_USE[split]} |" for (split, source), n in sorted(n_of.items())
    )
    gone = "\n".join(f"- {reason}: {n}" for reason, n in left_out.most_common() if n) or "- none"
    has_own = bool(n_of["test", "own"])
    return f"""# A GroundQL project

| file | what it is |
|---|---|
| `questions.jsonl` | the questions, one a line, with their SQL for {engine}: edit it |
| `config.toml` | what `groundql train` reads |
| `schema.md` | the database as it was read, for you to check |
| `schema.json`, `schema.sql` | the same for programs |

```
groundql train {folder}/config.toml --out {folder}/run
groundql generate {folder}/run --data jsonl:{folder}/questions.jsonl#{test_split} --decoding grounded --out {folder}/judged/predictions.jsonl
groundql judge {folder}/judged/predictions.jsonl --data jsonl:{folder}/questions.jsonl#{test_split} --out {folder}/judged
groundql report {folder}/judged
groundql ask DATABASE "your question" --model {folder}/run
```

## The questions

| split | asked by | questions | use |
|---|---|---|---|
{counts}

Every SQL was run on your database, read-only, and that of every draft returned rows. Drafts that were left out:

{gone}

## What drafted questions can show

They were written by templates from your tables, keys and values. No query pattern stands both in `train` and in
`held-out` on the same tables, so the held-out part is not the training part in other words. A model that answers them
knows your tables, columns and keys, and writes SQL that your engine takes.

## What they cannot show

- Whether the model understands your people. They leave words out, use names of their own, and mean things that no column
  says. Templates do not. Expect less on real questions than on these, often much less.
- Whether it answers what nobody drafted. The templates know lists, counts, conditions, aggregates, groups, orders, dates,
  negation and sets on up to three tables, and nothing beyond.
- Whether the SQL means what the question says. Templates do not read: a column named `status` may hold anything.

{"Your own questions are the test, and nothing else is: the number that `groundql judge` gives on them is the one to believe." if has_own else "**There is no question of your own here.** Write down 30 or more that people really asked, with SQL that you checked, and make the project again with `--questions FILE`: they become the test, before anything else."}

## Editing

One line is one question. Change a text, correct an SQL, delete a line, add one: `split` says what it is used for (`train`,
`dev`, `held-out`, `test`) and `source` who asked (`own`, `drafted`). A question and its SQL in two splits is left out of
training, and said.
"""


_USE = {
    "train": "trained on",
    "dev": "the loss is watched on them",
    "held-out": "drafted like the others, on patterns that training never sees",
    "test": "your own: the report is about them",
}
