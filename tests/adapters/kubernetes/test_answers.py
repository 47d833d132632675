"""Is an answer that is nested too deep cut there and nowhere else?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.answers import DEEPEST, parsed

LEVELS = 10_000  # more than an API server takes
TEXT = st.text('[]{}"\\a\n', max_size=6)
JSON = st.recursive(
    TEXT | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(("opening", "closing"), [('{"a": ', "}"), ("[", "]"), ('[{"}]": "{", "b": ', "}]")])
def test_one_deep_object_hides_no_other(opening: str, closing: str) -> None:
    deep = opening * LEVELS + "1" + closing * LEVELS
    answer = parsed(f'{{"items": [{{"name": "first", "deep": {deep}}}, {{"name": "[}}\\"]", "n": [1, {{}}]}}]}}'.encode())
    first, last = answer["items"]
    assert (first["name"], last) == ("first", {"name": '[}"]', "n": [1, {}]})
    assert json.dumps(first["deep"]).endswith(closing)


@pytest.mark.parametrize(
    "raw", [b"[" * LEVELS, b"]" * LEVELS, b'{"a":' * LEVELS + b'"', b"[" * LEVELS + b"]" * 5, b"<html>", b""]
)
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(raw)


@given(value=JSON, levels=st.integers(0, DEEPEST - 20))
def test_what_is_not_too_deep_stays_as_it_is_beside_what_is(value: Any, levels: int) -> None:
    """Law: a neighbour of something too deep is read as `json.loads` reads it alone."""
    wrapped = f"{'[' * levels}{json.dumps(value)}{']' * levels}"
    deep = "[" * 2000 + "]" * 2000
    before, cut, after = parsed(f"[{wrapped}, {deep}, {wrapped}]".encode())
    assert before == after == json.loads(wrapped)
    assert json.dumps(cut) == f"{'[' * (DEEPEST - 1)}null{']' * (DEEPEST - 1)}"
