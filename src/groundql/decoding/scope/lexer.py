"""Characters to tokens, a piece at a time: a token is complete when the character after it is known."""

import re
from collections.abc import Callable

from groundql.decoding.scope.names import Refusal, unquoted

# (mode, tail, next position, kind of token, its text); kind "" where no token is complete yet. The mode says what the
# text ends in: "" nothing, w word, q and Q open and closed back-tick, n number, s and S open and closed literal, or
# a sign that a second character may follow. The tail is the unfinished word, name or number.
Scanned = tuple[str, str, int, str, str]

_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_WORD_REST = re.compile(r"[A-Za-z0-9_$\x80-\U0010ffff]+")
_NUMBER_REST = re.compile(r"[0-9.]+")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_IN_LITERAL = re.compile(r"[^']+")
_IN_NAME = re.compile(r"[^`]+")
_SPACES = re.compile(r"[ \t\n\r\f]+")
_NO_CALLS = frozenset(["NOT", "EXISTS", "CASE", "SELECT", "DISTINCT", "WHEN", "WITH"])
_SECOND = {
    "<": "=>",
    ">": "=",
    "=": "=",
    "!": "=",
    "|": "|",
    "-": "",
}  # which second characters a sign may have
_SIGNS = frozenset("()*,+/%&;-<>=!|")


def scan(mode: str, tail: str, piece: str, i: int, may_call: bool) -> Scanned:
    """Goes on from position `i` of `piece` as far as one token; `may_call`: a word before ( is a function."""
    if mode == "":
        return _scan_start(piece, i)
    if mode == "w":
        return _scan_word(tail, piece, i, may_call)
    return _SCAN.get(mode, _scan_sign)(mode, tail, piece, i)


def checked_number(text: str) -> str:
    """`text` where it is a number or the beginning of one; Refusal else."""
    if not _NUMBER.fullmatch(text):
        raise Refusal(f"{text} is no number")
    return text


def _scan_start(piece: str, i: int) -> Scanned:
    char = piece[i]
    if char == " ":
        return "", "", i + 1, "", ""
    if match := _WORD.match(piece, i):
        return "w", match.group(), match.end(), "", ""
    if char in _SIGNS:
        return (char if char in _SECOND else ""), "", i + 1, "o", char
    if char in "0123456789":
        return "n", char, i + 1, "", ""
    if char == "'":
        return "s", "", i + 1, "s", ""
    if char == "`":
        return "q", char, i + 1, "", ""
    if match := _SPACES.match(piece, i):
        return "", "", match.end(), "", ""
    raise Refusal(f"{char!r} is not part of the dialect")


def _scan_word(tail: str, piece: str, i: int, may_call: bool) -> Scanned:
    if match := _WORD_REST.match(piece, i):
        return "w", tail + match.group(), match.end(), "", ""
    char = piece[i]
    if char == ".":
        return "", "", i + 1, "d", tail
    if char == "(" and may_call and tail.upper() not in _NO_CALLS:
        return "", "", i + 1, "c", tail
    return "", "", i, "w", tail


def _scan_number(mode: str, tail: str, piece: str, i: int) -> Scanned:
    if match := _NUMBER_REST.match(piece, i):
        return mode, tail + match.group(), match.end(), "", ""
    if _WORD_REST.match(piece, i):
        raise Refusal(f"{tail}{piece[i]} is no number")
    return "", "", i, "n", checked_number(tail)


def _scan_literal(mode: str, tail: str, piece: str, i: int) -> Scanned:
    match = _IN_LITERAL.match(piece, i)
    return ("s", "", match.end(), "", "") if match else ("S", "", i + 1, "", "")


def _scan_after_literal(mode: str, tail: str, piece: str, i: int) -> Scanned:
    return ("s", "", i + 1, "", "") if piece[i] == "'" else ("", "", i, "", "")


def _scan_name(mode: str, tail: str, piece: str, i: int) -> Scanned:
    if match := _IN_NAME.match(piece, i):
        return "q", tail + match.group(), match.end(), "", ""
    return "Q", tail + "`", i + 1, "", ""


def _scan_after_name(mode: str, tail: str, piece: str, i: int) -> Scanned:
    if piece[i] == "`":
        return "q", tail + "`", i + 1, "", ""
    is_qualifier = piece[i] == "."
    return "", "", i + is_qualifier, "d" if is_qualifier else "q", unquoted(tail)


def _scan_sign(mode: str, tail: str, piece: str, i: int) -> Scanned:
    char = piece[i]
    if char in _SECOND[mode]:
        return "", "", i + 1, "", ""
    if mode == "!" or (mode == "-" and char in "->"):
        raise Refusal(f"{mode}{char} is not part of the dialect")
    return "", "", i, "", ""


_SCAN: dict[str, Callable[[str, str, str, int], Scanned]] = {
    "n": _scan_number,
    "s": _scan_literal,
    "S": _scan_after_literal,
    "q": _scan_name,
    "Q": _scan_after_name,
}
