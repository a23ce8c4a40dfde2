"""Takes the SQL out of what a model wrote."""

import re

STARTS = "select with values insert update delete replace create drop alter pragma attach vacuum explain truncate".split()
SURE_START = re.compile(rf"\s*(?:\(\s*)*(?:{'|'.join(STARTS)})\b", re.IGNORECASE)
FENCE = re.compile(r"```[ \t]*(?P<name>[A-Za-z0-9_+-]*)[ \t]*\r?\n?(?P<body>.*?)(?:```|\Z)", re.DOTALL)
TILDE_FENCE = re.compile(r"~~~[ \t]*(?P<name>[A-Za-z0-9_+-]*)[ \t]*\r?\n(?P<body>.*?)(?:~~~|\Z)", re.DOTALL)
THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
TAGGED = re.compile(r"<sql>(.*?)(?:</sql>|\Z)", re.DOTALL | re.IGNORECASE)
LABEL = re.compile(
    r"\A\s*(?:\*\*|#+\s*)?(?:final\s+|the\s+|sqlite\s+)?(?:sql|sqlite|answer|query|sql\s+query|output)(?:\s+is)?(?:\*\*)?\s*:(?:\*\*)?\s*",
    re.IGNORECASE,
)
# Where a query begins inside other text: at a line's start, or after a label's colon. "with" and the verbs of prose
# count only in the shapes that SQL gives them.
INNER_START = re.compile(
    r"""(?:^|(?<=:)|(?<=`))[ \t(>]*(?P<start>
        select\s+(?!the\b|a\b|an\b|which\b|one\b|your\b|this\b|that\b)
      | with\s+(?:recursive\s+)?[\w"`\[\]]+\s*(?:\([^()]*\)\s*)?as\s*(?:not\s+materialized\s*|materialized\s*)?\(
      | values\s*\(
      | insert\s+(?:or\s+\w+\s+)?into\s | update\s+\S+\s+set\s | delete\s+from\s | replace\s+into\s
      | (?:create|drop|alter)\s+(?:table|view|index|trigger|temp|temporary|unique|virtual)\s
      | pragma\s+\w+ | attach\s+(?:database\s+)?'
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
ANYWHERE = re.compile(r"\bselect\b(?=[^.?!]*?\bfrom\b)", re.IGNORECASE)
PIECE = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]\n]*\] | --[^\n]* | /\*.*?\*/ | ; | \n[ \t]*\r?\n | ``` | .""",
    re.DOTALL | re.VERBOSE,
)
PROSE_LINE = re.compile(
    r"""\s*(?:explanation|note|reasoning|here|this|these|the\s+(?:query|above|sql|result)|in\s+this|where\s+the|i\s|we\s|it\s
        |let\s|please|output|result|question|answer|\#|\*\*|\*\s|-\s|\d+\.\s|<\||</s>|\[/?INST)""",
    re.IGNORECASE | re.VERBOSE,
)
SPECIAL = re.compile(r"<\|[^|>\n]{1,40}\|>|</s>|<eos>|<end_of_turn>", re.IGNORECASE)
MAX_CHARS = 200_000  # a longer text is cut: no model's answer holds its query behind that


def extract_sql(text: str) -> str | None:
    """The first query in `text` as it was written, without a final semicolon; None where there is nothing like one.

    Takes off thinking blocks, fences, labels, sentences before and explanations after. Of several statements that
    follow each other all stay, so that the ladder sees them. What it returns, it returns unchanged when asked again.
    Never raises.
    """
    text = SPECIAL.split(THINKING.sub("", text[:MAX_CHARS]).strip())[0] or SPECIAL.sub("\n", text[:MAX_CHARS])
    for candidate in _candidates(text):
        sql = _query_in(candidate)
        if sql:
            return sql
    return None


def _candidates(text: str) -> list[str]:
    """Where to look, in order: the whole text when it begins as SQL, tagged and fenced parts, then all of it."""
    if SURE_START.match(text) and "```" not in text:
        return [text]
    parts = [match[1] for match in TAGGED.finditer(text)]
    fences = [*FENCE.finditer(text), *TILDE_FENCE.finditer(text)]
    named = [match["body"] for match in fences if match["name"].lower() in ("sql", "sqlite", "sqlite3")]
    others = [match["body"] for match in fences if match["name"].lower() not in ("sql", "sqlite", "sqlite3")]
    whole_line_fences = [match["name"] + " " + match["body"] for match in fences if match["name"].lower() in STARTS]
    return [*parts, *named, *whole_line_fences, *others, text]


def _query_in(text: str) -> str | None:
    text = LABEL.sub("", text, count=1)
    start = INNER_START.search(text) or (ANYWHERE.search(text) if not SURE_START.match(text) else None)
    if start is None:
        return None
    position = start.start("start") if "start" in start.re.groupindex else start.start()
    return _up_to_explanation(text[position:]) or None


def _up_to_explanation(text: str) -> str:
    """`text` up to where the statements end: at a fence, or where what follows a `;` or an empty line is no SQL."""
    for match in PIECE.finditer(text):
        piece = match.group()
        if piece == "```":
            return _trimmed(text[: match.start()])
        is_break = piece == ";" or (piece[0] == "\n" and len(piece) > 1)
        if is_break:
            rest = text[match.end() :]
            goes_on = SURE_START.match(rest) if piece == ";" else not PROSE_LINE.match(rest) and not LABEL.match(rest)
            if not goes_on:
                return _trimmed(text[: match.start()])
    return _trimmed(text)


def _trimmed(text: str) -> str:
    return text.strip().rstrip(";`").rstrip()
