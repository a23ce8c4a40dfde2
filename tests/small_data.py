"""Two databases of a few rows and a dozen questions: enough to train a tiny model in a second."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

SHOP = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL);
CREATE TABLE sale (id INTEGER PRIMARY KEY, product INTEGER REFERENCES product(id), amount INTEGER, day TEXT);
INSERT INTO product VALUES (1, 'pen', 1.5), (2, 'ink', 4.0), (3, 'paper', 2.0);
INSERT INTO sale VALUES (1, 1, 10, '2024-01-31'), (2, 2, 3, '2024-02-29'), (3, 1, 5, NULL);
"""
CLUB = """
CREATE TABLE member (id INTEGER PRIMARY KEY, name TEXT, joined INTEGER);
INSERT INTO member VALUES (1, 'Ada', 1815), (2, 'Grace', 1906);
"""
TRAIN = (
    ("How many products are there?", "SELECT COUNT(*) FROM product"),
    ("What does ink cost?", "SELECT price FROM product WHERE name = 'ink'"),
    ("Names of all products", "SELECT name FROM product"),
    ("The dearest product", "SELECT name FROM product ORDER BY price DESC LIMIT 1"),
    ("How many sales have no day?", "SELECT COUNT(*) FROM sale WHERE day IS NULL"),
    ("Total amount sold", "SELECT SUM(amount) FROM sale"),
    (
        "Amount sold of each product",
        "SELECT T1.name, SUM(T2.amount) FROM product AS T1 JOIN sale AS T2 ON T2.product = T1.id GROUP BY T1.id",
    ),
    ("Products never sold", "SELECT name FROM product WHERE id NOT IN (SELECT product FROM sale)"),
)
DEV = (
    ("How many members are there?", "SELECT COUNT(*) FROM member"),
    ("Who joined first?", "SELECT name FROM member ORDER BY joined LIMIT 1"),
    ("When did Grace join?", "SELECT joined FROM member WHERE name = 'Grace'"),
)


def shop_file(folder: Path) -> Path:
    """The shop as a SQLite file."""
    path = folder / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHOP)
    return path


def write_small_data(folder: Path) -> tuple[str, str]:
    """Train on shop and dev on club as JSONL with SQL text; what `data.train` and `data.dev` take."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sql in (("shop", SHOP), ("club", CLUB)):
        (folder / f"{name}.sql").write_text(sql)
    for name, db_id, questions in (("train", "shop", TRAIN), ("dev", "club", DEV)):
        lines = [
            {"question": text, "sql": sql, "db_id": db_id, "database": f"{db_id}.sql"}
            for text, sql in questions
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"jsonl:{folder / 'train.jsonl'}", f"jsonl:{folder / 'dev.jsonl'}"


def write_config(folder: Path, model: str | Path, **training: object) -> Path:
    """A config of two epochs of two steps in fp32 without quantisation; `training` overrides or adds."""
    train, dev = write_small_data(folder)
    settings = {
        "epochs": 2,
        "pack_tokens": 512,
        "group_size": 4,
        "learning_rate": 0.05,
        "logging_steps": 1,
        "select_by": "last",
    } | training
    path = folder / "config.toml"
    path.write_text(
        f'[model]\nname = "{model}"\nquantization = "none"\ncompute_dtype = "float32"\n'
        f'[data]\ntrain = "{train}"\ndev = "{dev}"\n[lora]\nrank = 4\nalpha = 8\n[training]\n'
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        + "[generation]\nmax_new_tokens = 12\n"
    )
    return path
