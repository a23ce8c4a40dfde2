"""The SQL that may be written about one schema, as a list of rules, and its text for grammar engines.

`sql_rules` makes the list; `lark_text` prints it for llguidance, `gbnf_text` for llama.cpp, vLLM and xgrammar.
Nothing here needs torch or a grammar engine.
"""

from groundql.decoding.grammar.printers import gbnf_text, lark_text
from groundql.decoding.grammar.rules import MAX_SOURCES, MAX_TEXT_CHARS, Rules, function_names, sql_rules

__all__ = ["MAX_SOURCES", "MAX_TEXT_CHARS", "Rules", "function_names", "gbnf_text", "lark_text", "sql_rules"]
