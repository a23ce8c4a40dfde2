"""A schema that uses every feature of the prompt, and a question on it."""

from groundql.models.chat import PLAIN
from groundql.records import Column, ForeignKey, Question, Schema, Table, Turns

PLAIN_TURNS = Turns(**PLAIN, end="<|endoftext|>")
CHAT_TURNS = Turns(  # ChatML, as Qwen2.5 and SmolLM2 have it
    before_system="<|im_start|>system\n",
    after_system="<|im_end|>\n",
    before_user="<|im_start|>user\n",
    after_user="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
)
SHOP = Schema(
    db_id="shop",
    tables=(
        Table(
            name="customer",
            columns=(
                Column(name="id", type="INTEGER", examples=("1", "2")),
                Column(name="Full Name", type="TEXT", examples=("'Ada Byron'", "'O''Neil'", "'Zoë'")),
                Column(name="grade", type="CHAR(1)", description="A regular, B new", examples=("'A'", "'B'")),
            ),
            primary_key=("id",),
            description="people who bought at least once",
        ),
        Table(
            name="order",
            columns=(
                Column(name="shop", type="INTEGER"),
                Column(name="number", type="INTEGER"),
                Column(name="customer", type="INTEGER", examples=("1",), description="who paid"),
                Column(name="total", type="REAL", examples=("9.5", "120.0")),
                Column(name="note"),
            ),
            primary_key=("shop", "number"),
            foreign_keys=(ForeignKey(columns=("customer",), ref_table="customer", ref_columns=("id",)),),
        ),
        Table(
            name="line",
            columns=(
                Column(name="shop", type="INTEGER"),
                Column(name="number", type="INTEGER"),
                Column(name="a`b", type="TEXT"),
            ),
            foreign_keys=(
                ForeignKey(columns=("shop", "number"), ref_table="order", ref_columns=("shop", "number")),
            ),
        ),
    ),
)
QUESTION = Question(
    question_id="7",
    db_id="shop",
    text="  What did regular customers spend in total? ",
    evidence="regular: grade = 'A'",
)
