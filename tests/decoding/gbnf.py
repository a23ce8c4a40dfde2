"""Reads GBNF as llama.cpp writes it, strictly, and says whether a text belongs to the language. No left recursion."""

import re

PART = re.compile(
    r'(?P<literal>"(?:[^"\\]|\\.)*")|(?P<class>\[(?:[^\]\\]|\\.)*\])|(?P<name>[A-Za-z][A-Za-z0-9-]*)'
    r"|\{(?P<least>\d+),(?P<most>\d*)\}|(?P<mark>[()|?*+])|(?P<space> +)"
)
ESCAPE = re.compile(r'\\(?:x([0-9a-fA-F]{2})|([nrt"\\\]\[]))')


class Gbnf:
    """The rules of a text; ValueError where it is not GBNF, or a rule is missing or defined twice."""

    def __init__(self, text):
        self.rules = {}
        for line in text.splitlines():
            name, defines, body = line.partition(" ::= ")
            if not defines or not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", name) or name in self.rules:
                raise ValueError(f"no rule, or one that is there: {line[:60]}")
            parts = read_parts(body)
            self.rules[name] = read_choice(parts)
            if parts:
                raise ValueError(f"{name}: what is {parts[0]} doing there?")
        used = {name for rule in self.rules.values() for name in names_in(rule)}
        if used | {"root"} != set(self.rules):
            raise ValueError(f"missing or unused: {used ^ set(self.rules)}")

    def accepts(self, text):
        """Whether the whole of `text` can be derived."""

        known = {}  # by the node's identity: hashing a tree of tuples takes longer than all the rest

        def ends(node, start):
            key = (id(node), start)
            if key not in known:
                known[key] = found_ends(node, start)
            return known[key]

        def found_ends(node, start):
            kind, *rest = node
            if kind == "literal":
                return {start + len(rest[0])} if text.startswith(rest[0], start) else set()
            if kind == "class":
                return {start + 1} if re.match(rest[0], text[start : start + 1], re.DOTALL) else set()
            if kind == "name":
                return ends(self.rules[rest[0]], start)
            if kind == "choice":
                return set().union(*(ends(option, start) for option in rest[0]))
            if kind == "sequence":
                reached = {start}
                for part in rest[0]:
                    reached = set().union(*(ends(part, place) for place in reached))
                return reached
            part, least, most = rest
            reached, all_reached, n = {start}, set(), 0
            while reached and n <= most:
                all_reached |= reached if n >= least else set()
                reached = set().union(*(ends(part, place) for place in reached)) - all_reached
                n += 1
            return all_reached

        return len(text) in ends(self.rules["root"], 0)


def read_parts(body):
    parts, place = [], 0
    while place < len(body):
        match = PART.match(body, place)
        if not match:
            raise ValueError(f"not GBNF: {body[place : place + 30]!r}")
        place = match.end()
        if not match["space"]:
            parts.append(match)
    return parts


def read_choice(parts):
    options = [read_sequence(parts)]
    while parts and parts[0]["mark"] == "|":
        parts.pop(0)
        options.append(read_sequence(parts))
    return ("choice", tuple(options))


def read_sequence(parts):
    found = []
    while parts and parts[0]["mark"] not in ("|", ")"):
        part = parts.pop(0)
        if part["literal"]:
            node = ("literal", ESCAPE.sub(unescaped, part["literal"][1:-1]))
        elif part["class"]:
            node = ("class", part["class"])
        elif part["name"]:
            node = ("name", part["name"])
        elif part["mark"] == "(":
            node = read_choice(parts)
            if not parts or parts.pop(0)["mark"] != ")":
                raise ValueError("a parenthesis stays open")
        else:
            raise ValueError(f"nothing before {part[0]}")
        found.append(repeated(node, parts))
    if not found:
        raise ValueError("an empty alternative")
    return ("sequence", tuple(found))


def repeated(node, parts):
    if parts and parts[0]["least"] is not None:
        bounds = parts.pop(0)
        return ("repeat", node, int(bounds["least"]), int(bounds["most"] or 10**9))
    if parts and parts[0]["mark"] and parts[0]["mark"] in "?*+":
        mark = parts.pop(0)["mark"]
        return ("repeat", node, int(mark == "+"), 1 if mark == "?" else 10**9)
    return node


def unescaped(match):
    return chr(int(match[1], 16)) if match[1] else {"n": "\n", "r": "\r", "t": "\t"}.get(match[2], match[2])


def names_in(node):
    kind, *rest = node
    if kind == "name":
        return {rest[0]}
    if kind in ("choice", "sequence"):
        return set().union(*(names_in(part) for part in rest[0]))
    return names_in(rest[0]) if kind == "repeat" else set()
