r"""A rule list as text: Lark for llguidance, GBNF for llama.cpp, vLLM and xgrammar."""

import functools
import re
from collections.abc import Callable

from groundql.decoding.grammar.rules import Rules

_PART = re.compile(
    r'(?P<literal>"(?:[^"\\]|\\.)*")|(?P<class>\[(?:[^\]\\]|\\.)*\])|(?P<name>[A-Za-z]\w*)|(?P<mark>.)', re.S
)


def lark_text(rules: Rules) -> str:
    """The rules for llguidance; names in upper case are its terminals."""
    return "".join(_lark_rule(name, body) for name, body in rules)


@functools.lru_cache(256)  # all but the names of a schema is the same for every schema
def _lark_rule(name: str, body: str) -> str:
    return f"{name}: {_print(body, lambda part: f'/{part}/', str)}\n"


def gbnf_text(rules: Rules) -> str:
    """The rules as GBNF, which has no lexer: terminals are rules like others. The first rule is `root`."""
    start = rules[0][0]

    def rule_name(name: str) -> str:
        # One alphabet for llama.cpp, which takes letters, digits and "-"; marked, for it may differ in case alone.
        return (
            "root"
            if name == start
            else (f"t-{name.lower()}" if name.isupper() or name[0].isupper() else name)
        )

    return "".join(f"{rule_name(name)} ::= {_print(body, str, rule_name)}\n" for name, body in rules)


def _print(body: str, of_class: Callable[[str], str], of_name: Callable[[str], str]) -> str:
    def part(match: re.Match[str]) -> str:
        if match["class"]:
            return of_class(match["class"])
        return of_name(match["name"]) if match["name"] else match[0]

    return _PART.sub(part, body)
