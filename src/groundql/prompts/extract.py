"""Takes the SQL out of what a model wrote."""

import re

MAX_CHARS = 50_000  # a longer text is cut: no model's answer holds its query behind that

# How a statement begins. Prose shares the words ("select the rows that ..."), so each counts only in the shape that
# SQL gives it: SELECT is not followed by three plain words, WITH names a table and opens a bracket.
NAME = r"(?:\w+|\"[^\"\n]*\"|`[^`\n]*`|\[[^\]\n]*\])"
NO_PROSE = (
    r"(?!(?!(?:distinct|all|case|not|exists)\b)[a-z]+\s+(?!(?:as|from|and|or|is|in|like|between|collate|glob|union)\b)[a-z]+"
    r"\s+(?!(?:from|as|and|or|is|in|like|where|union|order|group|limit|then|between|collate|except|intersect)\b)[a-z]+)"
)
HEAD = rf"""(?:\(\s*)*(?:
      select(?=[\s(*'"`\[]) (?!\s*+(?:;|\Z)) \s*+{NO_PROSE}
    | with\s+(?:recursive\s+)?{NAME}\s*(?:\([^()]*\)\s*)?as\s*(?:(?:not\s+)?materialized\s*)?\(
    | values\s*\(
    | explain\s+(?:query\s+plan\s+)?(?:select|with)\b
    | insert\s+(?:or\s+\w+\s+)?into\s | replace\s+into\s | delete\s+from\s | update\s+(?:or\s+\w+\s+)?{NAME}\s+set\s
    | (?:create|drop|alter)\s+(?:table|view|(?:unique\s+)?index|trigger|temp\w*\s+\w+|virtual\s+table)\s
    | pragma\s+\w+\s*(?:[=(;.]|$) | attach\s+(?:database\s+)?['":] | vacuum\s*(?:;|into\b|$)
)"""
FLAGS = re.IGNORECASE | re.VERBOSE
AT_START = re.compile(rf"\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*(?P<start>{HEAD})", FLAGS | re.DOTALL)
AT_LINE = re.compile(rf"^[ \t]*+(?:[-*>]|\d{{1,2}}[.)])?[ \t]*+(?P<start>{HEAD})", FLAGS | re.MULTILINE)
AFTER_WORD = re.compile(rf"(?::|=|`|\*|\bis|\bbe|\bsql|\bquery)[ \t*`]{{0,9}}+(?P<start>{HEAD})", FLAGS)
IN_CAPITALS = re.compile(r"(?P<start>\bSELECT\b(?=[^.?!\n]{1,2000}?\bFROM\b))")

# "From here on ..." is prose: FROM counts in capitals, or with a SELECT behind it.
FROM = r"(?:FROM|(?i:from)(?=(?s:.){1,2000}?\b(?i:select)\b))"
FROM_FIRST = re.compile(
    rf"(?:\A|\n|```\w*|[:`])\s*(?P<start>{FROM}\s+(?:{NAME}|\()|(?i:with)\s+{NAME}\s+(?i:as)\s*\()"
)

FENCE = re.compile(r"(?:```|~~~)[ \t]*(?P<name>[A-Za-z0-9_+-]*)(?P<body>.*?)(?:```|~~~|\Z)", re.DOTALL)
THINKING = re.compile(r"<(?P<tag>think|thinking)>.*?(?:</(?P=tag)>|\Z)", re.DOTALL | re.IGNORECASE)
TAGGED = re.compile(r"<sql>(.*?)(?:</sql>|\Z)", re.DOTALL | re.IGNORECASE)
TURN = r"<\|[^|>\n]{1,40}\|>|</?s>|<eos>|<bos>|<end_of_turn>|\[/?INST\]|</sql>"
SPECIAL = re.compile(TURN, re.IGNORECASE)
SQL_NAMES = ("sql", "sqlite", "sqlite3")

PIECE = re.compile(
    rf"""(?P<turn>{TURN}) | '[^']*(?:''[^']*)*(?:'|\Z) | "[^"]*(?:""[^"]*)*(?:"|\Z) | `[^`]+` | \[[^\]\n]*\]? | --[^\n]* | /\*.*?(?:\*/|\Z)
      | (?P<end>``` | ~~~) | (?P<stop>;) | (?P<gap>\n\s*) | [^'"`\[\-/~;\n<]+ | .""",
    re.DOTALL | re.VERBOSE,
)
PROSE = re.compile(
    r"""(?:This|These|The|That|Here|Note|In|It|We|I|You|Let|Please|To|For|If|Where|First|Since|Because|Also)\s+(?:[a-z']+\s+)
      | [*_#>]*\s*(?:Explanation|Note|Notes|Reasoning|Question|Answer|Evidence|Output|Result|SQL|Query|Q|A|User|Assistant)
        [*_]*\s*:
      | \#{1,6}\s | [-*]\s+[A-Z`*] | \d{1,2}[.)]\s+[A-Z`*] | --- | \*\*""",
    re.VERBOSE,
)


def extract_sql(text: str) -> str | None:
    """The first query in `text` as it was written, without a final semicolon; None where there is nothing like one.

    Takes off thinking blocks, fences, labels, sentences before and explanations after. Statements that follow each
    other all stay, so that the ladder sees them. What it returns, it returns unchanged when asked again. Never raises.
    """
    text = THINKING.sub("\n", text[:MAX_CHARS])
    for part in _parts(text):
        start = AT_START.match(part) or _first(part)
        if start:
            sql = _statements(part[start.start("start") :])
            if AT_START.match(sql):
                return sql
    return None


def extract_from_first(text: str) -> str | None:
    """The first query in `text` that begins with FROM or WITH, as it was written; None where there is none."""
    text = THINKING.sub("\n", text[:MAX_CHARS])
    start = FROM_FIRST.search(text)
    return _statements(text[start.start("start") :]) if start else None


def _parts(text: str) -> list[str]:
    """Where to look, in order: all of it where it begins as SQL, then tagged and fenced parts, then all of it."""
    whole = [text] if AT_START.match(text) else []
    tagged = [match[1] for match in TAGGED.finditer(text)]
    fences = list(FENCE.finditer(text))
    named = [match["body"] for match in fences if match["name"].lower() in SQL_NAMES]
    others = [match["name"] + match["body"] for match in fences if match["name"].lower() not in SQL_NAMES]
    unlabelled = [re.sub(r"\A\w+\s*\n", "", body) for body in others]
    return [*whole, *tagged, *named, *unlabelled, *SPECIAL.split(text)]


def _first(text: str) -> re.Match[str] | None:
    """The earliest place inside `text` where a statement seems to begin."""
    found = [match for pattern in (AT_LINE, AFTER_WORD) if (match := pattern.search(text))]
    return min(found, key=lambda match: match.start("start"), default=None) or IN_CAPITALS.search(text)


def _statements(text: str) -> str:
    """`text` up to where the statements end: a fence, a special token, a sentence after a `;` or on a new line."""
    for piece in PIECE.finditer(text):
        rest = piece.end()
        ends = (
            piece.lastgroup in ("end", "turn")
            or (piece.lastgroup == "stop" and not AT_START.match(text, rest))
            or (piece.lastgroup == "gap" and PROSE.match(text, rest))
        )
        if ends:
            return _trimmed(text[: piece.start()])
    return _trimmed(text)


def _trimmed(text: str) -> str:
    """Without a final semicolon, and without the back-tick that closes one opened before the query."""
    text = text.strip().rstrip("; \t\r\n")
    return text[:-1].rstrip("; \t\r\n") if text.endswith("`") and text.count("`") % 2 else text
