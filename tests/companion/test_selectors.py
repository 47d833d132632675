"""Does a selector mean what it means everywhere in Kubernetes, and is everything else refused in one line?

The oracle asks each requirement by itself, as the table of operators has it; texts are rendered with blanks wherever
the grammar has room for some.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.companion.selectors import BadSelector, parse

CHAT = {"policy": "chat", "role": "decode"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        (" \t\n", True),
        ("role=decode", True),
        ("role==decode", True),
        ("role = decode", True),
        ("role=prefill", False),
        ("role!=prefill", True),
        ("role!=decode", False),
        ("zone!=a", True),
        ("zone=a", False),
        ("zone=", False),
        ("role=", False),
        ("role in (decode)", True),
        ("role in(decode,prefill)", True),
        ("role in ( prefill , decode )", True),
        ("role in (prefill)", False),
        ("role in (,prefill)", False),
        ("role notin (prefill,)", True),
        ("role notin (decode)", False),
        ("zone notin (a)", True),
        ("zone in (a)", False),
        ("role", True),
        ("zone", False),
        ("!zone", True),
        ("! zone", True),
        ("!role", False),
        ("policy=chat,role=decode", True),
        ("policy=chat,role=prefill", False),
        ("policy=chat , role in (decode), !zone, pdautoscaler.io/zone!=a", True),
        ("in=in", False),
        ("notin notin (notin)", True),
        ("a" * 63 + "!=x", True),
    ],
)
def test_a_selector_means_what_it_means_to_kubectl(text: str, holds: bool) -> None:
    assert parse(text).matches(CHAT) is holds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("role=decode,", "found the end, expected the name of a label"),
        (",role", "found ',', expected the name of a label"),
        ("role=decode,,policy", "found ',', expected the name of a label"),
        ("role===decode", "found '=', expected a value"),
        ("role decode", "found 'decode' after 'role', expected one of =, ==, !=, in, notin, or the end"),
        ("role=a b", "found 'b', expected ','"),
        ("role in decode", "found 'decode', expected '('"),
        ("role in (decode", "found the end, expected ')'"),
        ("role in ()", "found '()', expected at least one value"),
        ("role in (a b)", "found 'b', expected ')'"),
        ("role>5", "found '>' after 'role', expected one of =, ==, !=, in, notin, or the end"),
        ("!role=decode", "found '=', expected ','"),
        ("!!role", "found '!', expected the name of a label"),
        ("=decode", "found '=', expected the name of a label"),
        ("role=_decode", "'_decode' is no value of a label (allowed: at most 63 of A-Z a-z 0-9 . _ -)"),
        ("role=" + "a" * 64, f"'{'a' * 60}' is no value of a label (allowed: at most 63 of A-Z a-z 0-9 . _ -)"),
        ("/role", "'/role' is no name of a label (allowed: [prefix/]name, 63 of A-Z a-z 0-9 . _ -)"),
        ("UP/role", "'UP/role' is no name of a label (allowed: [prefix/]name, 63 of A-Z a-z 0-9 . _ -)"),
        ("a/b/c", "'a/b/c' is no name of a label (allowed: [prefix/]name, 63 of A-Z a-z 0-9 . _ -)"),
        ("rôle", r"'r\xf4le' is no name of a label (allowed: [prefix/]name, 63 of A-Z a-z 0-9 . _ -)"),
        ("role=\x00", r"'\x00' is no value of a label (allowed: at most 63 of A-Z a-z 0-9 . _ -)"),
        ("role=a\n\x1cb", r"found '\x1cb', expected ','"),
        ("<script>", "found '<', expected the name of a label"),
    ],
)
def test_what_is_no_selector_is_refused_where_it_stops_being_one(text: str, complaint: str) -> None:
    with pytest.raises(BadSelector) as refused:
        parse(text)
    assert str(refused.value) == complaint


NAMES = st.sampled_from(["policy", "role", "zone", "in", "notin", "pdautoscaler.io/zone"])
VALUES = st.sampled_from(["", "chat", "decode", "prefill", "in", "a-b.c_d"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=4)
BLANK = st.sampled_from(["", " ", "\t", "  \n"])


@st.composite
def requirements(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """Name, operator and values."""
    operator = draw(st.sampled_from(["=", "==", "!=", "in", "notin", "", "!"]))
    most = {"in": 3, "notin": 3, "": 0, "!": 0}.get(operator, 1)
    values = draw(st.lists(VALUES, min_size=min(most, 1), max_size=most))
    return draw(NAMES), operator, ["", ""] if values == [""] and most > 1 else values  # "in ()" is refused, "in (,)" is not


def holds(requirement: tuple[str, str, list[str]], labels: dict[str, str]) -> bool:
    name, operator, values = requirement
    return {
        "=": labels.get(name) in values,
        "==": labels.get(name) in values,
        "in": labels.get(name) in values,
        "!=": labels.get(name) not in values,
        "notin": labels.get(name) not in values,
        "": name in labels,
        "!": name not in labels,
    }[operator]


@given(st.lists(requirements(), max_size=3), LABELS, BLANK, BLANK)
def test_requirements_hold_together_as_each_by_itself(
    wanted: list[tuple[str, str, list[str]]], labels: dict[str, str], blank: str, other: str
) -> None:
    def written(requirement: tuple[str, str, list[str]]) -> str:
        name, operator, values = requirement
        if operator in ("in", "notin"):
            return f"{blank}{name} {operator}{other}({blank}{f'{other},{blank}'.join(values)}{other})"
        return f"{operator}{blank}{name}{other}" if operator == "!" else f"{name}{blank}{operator}{other}{''.join(values)}"

    assert parse(",".join(map(written, wanted))).matches(labels) is all(holds(one, labels) for one in wanted)


@given(st.text(alphabet=st.sampled_from("ab/=!(),<> inot-._\t\x00é"), max_size=24))
def test_any_text_is_a_selector_or_refused_in_one_short_line(text: str) -> None:
    complaint = ""
    try:
        parse(text).matches(CHAT)
    except BadSelector as refused:
        complaint = str(refused)
    assert "\n" not in complaint
    assert len(complaint) < 200
