"""Which series does a label selector mean?

    selector    = requirement ("," requirement)*          empty: all
    requirement = key | "!" key | key ("=" | "==" | "!=") value | key ("in" | "notin") "(" value ("," value)* ")"

All requirements must hold. `!=` and `notin` hold for a series without that label, too: so they do everywhere in Kubernetes.
A value may be empty ("a=", "a in (x,)"). Keys and values have the lengths and characters of labels. Kubernetes also knows
`<` and `>` for labels that are whole numbers; no label of ours is one, so they are refused rather than matched with nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

BLANKS = " \t\r\n"
TOKEN = re.compile(rf"[{BLANKS}]*(==|!=|[=!(),<>]|[^{BLANKS}=!(),<>]+)")
VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
SIGNS = frozenset(("==", "!=", "=", "!", "(", ")", ",", "<", ">"))
LISTED = {"in": True, "notin": False}
EQUALS = {"=": True, "==": True, "!=": False}
END = ""  # the token after the last
SHOWN = 60


class BadSelector(ValueError):
    """The text is no selector; `str()` tells where it stops being one."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Whether `key` is there with one of `values` (None: any at all), or, if `negated`, is not."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is meant."""
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is meant."""
        for one in self.requirements:  # noqa: SIM110 - a generator doubles what a series costs, and there are a thousand
            if not one.holds(labels):
                return False
        return True


def parse(text: str) -> Selector:
    """Read a selector. Raises BadSelector for anything else."""
    tokens = _Tokens(text)
    found: list[Requirement] = []
    while tokens.next != END or found:  # after a comma there must be another one
        found.append(_requirement(tokens))
        if tokens.next == END:
            break
        tokens.expect(",")
    return Selector(tuple(found))


class _Tokens:
    """The tokens of a text, one looked at ahead."""

    def __init__(self, text: str) -> None:
        self._rest: Iterator[str] = (match[1] for match in TOKEN.finditer(text.rstrip(BLANKS)))
        self.next = next(self._rest, END)

    def take(self) -> str:
        taken, self.next = self.next, next(self._rest, END)
        return taken

    def expect(self, sign: str) -> None:
        if self.take_if(sign) is None:
            raise BadSelector(f"found {_shown(self.next)}, expected {sign!r}")

    def take_if(self, sign: str) -> str | None:
        return self.take() if self.next == sign else None

    def word(self, what: str) -> str:
        if self.next in SIGNS or self.next == END:
            raise BadSelector(f"found {_shown(self.next)}, expected {what}")
        return self.take()


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.take_if("!"):
        return Requirement(_key(tokens), None, negated=True)
    key, operator = _key(tokens), tokens.next
    if operator in EQUALS:
        tokens.take()
        return Requirement(key, frozenset((_value(tokens),)), negated=not EQUALS[operator])
    if operator in LISTED:
        tokens.take()
        return Requirement(key, _values(tokens), negated=not LISTED[operator])
    if operator in (",", END):
        return Requirement(key, None, negated=False)
    allowed = "one of =, ==, !=, in, notin, or the end"
    raise BadSelector(f"found {_shown(operator)} after {_shown(key)}, expected {allowed}")


def _key(tokens: _Tokens) -> str:
    key = tokens.word("the name of a label")
    prefix, slash, name = key.rpartition("/")
    if not name or VALUE.fullmatch(name) is None or (slash and PREFIX.fullmatch(prefix) is None):
        raise BadSelector(f"{_shown(key)} is no name of a label (allowed: [prefix/]name, 63 of A-Z a-z 0-9 . _ -)")
    return key


def _value(tokens: _Tokens) -> str:
    if tokens.next in (",", ")", END):
        return ""
    value = tokens.word("a value")
    if VALUE.fullmatch(value) is None:
        raise BadSelector(f"{_shown(value)} is no value of a label (allowed: at most 63 of A-Z a-z 0-9 . _ -)")
    return value


def _values(tokens: _Tokens) -> frozenset[str]:
    tokens.expect("(")
    if tokens.next == ")":
        raise BadSelector("found '()', expected at least one value")
    values = {_value(tokens)}
    while tokens.take_if(","):
        values.add(_value(tokens))
    tokens.expect(")")
    return frozenset(values)


def _shown(found: str) -> str:
    return ascii(found[:SHOWN]) if found else "the end"
