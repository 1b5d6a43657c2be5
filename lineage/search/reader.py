"""Search text to tree: recursive descent over at most 4,000 characters."""

from __future__ import annotations

import difflib
import re
from typing import Any

from lineage.errors import QueryInvalid
from lineage.search.fields import FIELDS, ValueUnknown, check
from lineage.search.terms import KEYWORD, And, Node, Or, Query, Term, joined, negated, terms

TEXT_LIMIT = 4_000
CONDITIONS_LIMIT = 100
DEPTH_LIMIT = 30

_FIELD = re.compile(r'([A-Za-z_]+)(?:\.([^\s():"]+))?:')
_WITHOUT_COLON = re.compile(r"([A-Za-z_]+)()(?=[<>])")
_COMPARE = re.compile(r"[<>]=?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"(\*?)', re.DOTALL)
_PLAIN = re.compile(r'[^\s()"]+')
_SPACE = re.compile(r"\s*")
_BOUNDARY = re.compile(r"[\s()]|$")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse(text: str) -> Query:
    """The query that `text` means; empty text asks for everything. QueryInvalid names field or place of a fault."""
    if len(text) > TEXT_LIMIT:
        raise QueryInvalid(f"The search text is longer than {TEXT_LIMIT} characters. Ask for less at once.", q="length")
    unstorable = _UNSTORABLE.search(text)
    if unstorable:
        raise _fault("This character cannot occur in a record; remove it", unstorable.start())
    reader = _Reader(text)
    if reader.at_end():
        return Query()
    root = reader.alternatives(0)
    if not reader.at_end():
        raise _fault("A closing parenthesis has no opening one", reader.place)
    if len(terms(root)) > CONDITIONS_LIMIT:
        raise QueryInvalid(f"The search has more than {CONDITIONS_LIMIT} conditions. Ask for less at once.", q="length")
    return Query(root)


def _fault(what: str, place: int, meant: str = "") -> QueryInvalid:
    more = {"meant": meant} if meant else {}
    return QueryInvalid(f"{what} (at character {place + 1}).", q=f"character {place + 1}", **more)


class _Reader:
    """`place` is the next character to read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def at_end(self) -> bool:
        space = _SPACE.match(self.text, self.place)
        self.place = space.end() if space else self.place
        return self.place == len(self.text)

    def alternatives(self, depth: int) -> Node:
        parts = [self._sequence(depth)]
        while self._keyword("or"):
            parts.append(self._sequence(depth))
        return joined(Or, parts)

    def _sequence(self, depth: int) -> Node:
        parts = [self._condition(depth)]
        while not self.at_end() and self.text[self.place] != ")" and self._peek() != "or":
            self._keyword("and")
            parts.append(self._condition(depth))
        return joined(And, parts)

    def _condition(self, depth: int) -> Node:
        if depth > DEPTH_LIMIT:
            raise _fault(f"More than {DEPTH_LIMIT} levels of parentheses or negations", self.place)
        if self.at_end() or self.text[self.place] == ")" or self._peek() in ("or", "and"):
            raise _fault("Something to search for is missing", self.place)
        if self._keyword("not"):
            return negated(self._condition(depth + 1))
        if self.text[self.place] == "-":
            self.place += 1
            return negated(self._condition(depth + 1))
        if self.text[self.place] == "(":
            return self._parenthesised(depth)
        return self._term()

    def _parenthesised(self, depth: int) -> Node:
        opening = self.place
        self.place += 1
        inner = self.alternatives(depth + 1)
        if self.at_end():
            raise _fault("The parenthesis is never closed; quote a text that contains one", opening)
        self.place += 1
        return inner

    def _term(self) -> Term:
        start = self.place
        name, column = self._field()
        compare = self._comparison(name)
        value, prefix = self._value()
        term = Term(name, value, compare, prefix, column)
        try:
            check(term)
        except ValueUnknown as error:
            meant = f"{term.name}:{error.nearest}"
            raise _fault(str(error), start, self._with(meant, start) if error.nearest else "") from None
        except ValueError as error:
            raise _fault(str(error), start) from None
        return term

    def _field(self) -> tuple[str, str]:
        match = _FIELD.match(self.text, self.place)
        if match is None:
            match = _WITHOUT_COLON.match(self.text, self.place)
            if match is None or match[1].lower() not in FIELDS:
                return "", ""
        name, column = match[1].lower(), match[2] or ""
        if name not in FIELDS:
            raise self._unknown_field(match[0].rstrip(":"))
        if FIELDS[name].of_column != bool(column):
            raise _fault(f"Write {FIELDS[name].label}:value", self.place)
        self.place = match.end()
        return name, column

    def _comparison(self, name: str) -> Any:
        match = _COMPARE.match(self.text, self.place) if name else None
        if match is None:
            return ""
        if not FIELDS[name].comparable:
            which = ", ".join(field.name for field in FIELDS.values() if field.comparable)
            raise _fault(f"Only {which} can be compared with {match[0]}; quote a text that begins so", self.place)
        self.place = match.end()
        return match[0]

    def _value(self) -> tuple[str, bool]:
        quoted, plain = _QUOTED.match(self.text, self.place), _PLAIN.match(self.text, self.place)
        match = quoted or plain
        if match is None:
            unclosed = self.text.startswith('"', self.place) and not self.text.startswith('""', self.place)
            raise _fault("The quote is never closed" if unclosed else "A value is missing", self.place)
        if not _BOUNDARY.match(self.text, match.end()):
            raise _fault("Put a space between a quoted text and what stands beside it", match.end())
        if quoted:
            value, prefix = re.sub(r'\\(["\\])', r"\1", quoted[1]), quoted[2] == "*"
        else:
            value, prefix = match[0].removesuffix("*"), match[0].endswith("*")
            if "*" in value:
                raise _fault("A star may stand only at the end; quote a text that contains one", self.place)
        self.place = match.end()
        return value, prefix

    def _peek(self) -> str:
        match = KEYWORD.match(self.text, self.place)
        return match[0].lower() if match else ""

    def _keyword(self, word: str) -> bool:
        if self.at_end() or self._peek() != word:
            return False
        self.place += len(word)
        return True

    def _with(self, meant: str, start: int) -> str:
        """The whole text with `meant` in place of what was read since `start`."""
        return f"{self.text[:start]}{meant}{self.text[self.place :]}"

    def _unknown_field(self, name: str) -> QueryInvalid:
        near = difflib.get_close_matches(name.lower(), FIELDS, n=1, cutoff=0.0)[0]
        place = self.place + 1
        meant = f"{self.text[: self.place]}{near}{self.text[self.place + len(name) :]}"
        message = (
            f"There is no field {name} (at character {place}); the nearest is {near}. Quote a text that has a colon."
        )
        return QueryInvalid(message, q=f"character {place}", nearest=near, meant=meant)
