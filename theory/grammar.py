"""The grammar of statements: text to a parse tree, with the place of every error.

    statement  := side (relation side)          relation := <= | >= | == | < | >
    side       := term (('+' | '-') term)*      term     := factor (('*') factor)*
    factor     := '-' factor | power            power    := postfix ('^' integer)?
    postfix    := primary ('.T')*
    primary    := number | name | '(' side ')' | function '(' side (',' side)* ')'

Whether a node is a matrix or a number is decided when it is typed (``theory.expressions``). Parsing
is a hand-written recursive descent: users' text is never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from theory.errors import InputError

RELATIONS = ("<=", ">=", "==", "<", ">")
#: function name -> number of arguments (None: any number)
FUNCTIONS: dict[str, int | None] = {
    "rank": 1,
    "rows": 1,
    "cols": 1,
    "min": None,
    "max": None,
    "vstack": None,
    "hstack": None,
    "blockdiag": None,
    "kron": None,
}

_DEPTH = 60  # of brackets and signs
_LONG = 40  # operands in a row that still lean to the left

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:/\d+)?)|(?P<name>[A-Za-z][A-Za-z0-9_]*)|(?P<op><=|>=|==|\*\*|\.T|[-+*^(),<>]))"
)


class ParseError(InputError):
    """The text does not parse; the message shows the text with a caret under the place."""

    def __init__(self, text: str, place: int, what: str) -> None:
        super().__init__(f"{what}\n  {text}\n  {' ' * place}^")
        self.place = place


@dataclass(frozen=True)
class Node:
    """A node of the parse tree: ``kind`` is an operator, a function, ``number`` or ``name``."""

    kind: str
    parts: tuple[Node, ...]
    value: str
    place: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ParseError(text, at, f"unexpected character {text[at]!r}")
        kind = match.lastgroup or ""
        out.append(_Token(kind, match.group(kind), match.start(kind)))
        at = match.end()
    return [*out, _Token("end", "", len(text.rstrip()))]


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    @property
    def now(self) -> _Token:
        return self.tokens[self.at]

    def fail(self, what: str) -> ParseError:
        return ParseError(self.text, self.now.place, what)

    def take(self, *texts: str) -> _Token | None:
        if self.now.kind == "op" and self.now.text in texts:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def expect(self, text: str) -> None:
        if self.take(text) is None:
            found = self.now.text or "the end"
            raise self.fail(f"expected {text!r}, found {found!r}")

    def statement(self) -> Node:
        left = self.side()
        token = self.take(*RELATIONS)
        if token is None:
            found = self.now.text or "the end"
            raise self.fail(f"expected one of {', '.join(RELATIONS)}, found {found!r}")
        right = self.side()
        if self.now.kind != "end":
            raise self.fail(f"unexpected {self.now.text!r} after the statement")
        return Node(token.text, (left, right), "", token.place)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.fail(f"nested more than {_DEPTH} deep")

    def side(self) -> Node:
        self.deeper()
        first, rest = self.term(), []
        while token := self.take("+", "-"):
            rest.append((token, self.term()))
        self.depth -= 1
        return _join(first, rest)

    def term(self) -> Node:
        first, rest = self.factor(), []
        while token := self.take("*"):
            rest.append((token, self.factor()))
        return _join(first, rest)

    def factor(self) -> Node:
        if token := self.take("-"):
            self.deeper()
            node = Node("neg", (self.factor(),), "", token.place)
            self.depth -= 1
            return node
        node = self.turned(self.primary())
        if token := self.take("^", "**"):
            if self.now.kind != "number" or "/" in self.now.text or int(self.now.text) > 64:
                raise self.fail("expected an exponent, an integer from 0 to 64")
            node = Node("^", (node,), self.now.text, token.place)
            self.at += 1
            node = self.turned(node)
        return node

    def turned(self, node: Node) -> Node:
        """The node with the ``.T`` that follow it; two of them are none."""
        count, place = 0, self.now.place
        while self.take(".T"):
            count += 1
        return Node("T", (node,), "", place) if count % 2 else node

    def primary(self) -> Node:
        token = self.now
        if token.kind == "number":
            self.at += 1
            if "/" in token.text and int(token.text.split("/")[1]) == 0:
                raise ParseError(self.text, token.place, "division by zero")
            return Node("number", (), token.text, token.place)
        if token.kind == "name":
            self.at += 1
            if self.now.text == "(" and self.now.kind == "op":
                return self.call(token)
            if token.text in FUNCTIONS:
                raise self.fail(f"{token.text} is a function: write {token.text}(...)")
            return Node("name", (), token.text, token.place)
        if self.take("("):
            node = self.side()
            self.expect(")")
            return node
        found = token.text or "the end"
        raise self.fail(f"expected a matrix, a number or '(', found {found!r}")

    def call(self, token: _Token) -> Node:
        if token.text not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise ParseError(
                self.text, token.place, f"unknown function {token.text!r} (known: {known})"
            )
        self.expect("(")
        arguments = [self.side()]
        while self.take(","):
            arguments.append(self.side())
        self.expect(")")
        count = FUNCTIONS[token.text]
        if count is not None and len(arguments) != count:
            raise ParseError(
                self.text, token.place, f"{token.text} takes {count} argument, got {len(arguments)}"
            )
        return Node(token.text, tuple(arguments), "", token.place)


def _join(first: Node, rest: Sequence[tuple[_Token, Node]]) -> Node:
    """``first op node op node ...`` from the left; a balanced tree where that would be very deep."""
    if len(rest) <= _LONG:
        node = first
        for token, right in rest:
            node = Node(token.text, (node, right), "", token.place)
        return node
    middle = len(rest) // 2
    (token, node), *others = rest[middle:]
    if token.text == "-":  # a - (b + c) needs the sign inside: a + (-b + c)
        node = Node("neg", (node,), "", token.place)
    joint = "*" if token.text == "*" else "+"
    return Node(joint, (_join(first, rest[:middle]), _join(node, others)), "", token.place)


def parse_tree(text: str) -> Node:
    """The parse tree of a statement ``side relation side``.

    Raises:
        ParseError: the text is no statement; the message has a caret under the place.
    """
    return _Parser(text).statement()
