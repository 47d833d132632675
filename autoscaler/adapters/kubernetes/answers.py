"""What does the API server say, however deep it is nested?

Some fields take anything (a PDAutoscaler's inline profile, its state), and the API server stores mappings ten times as
deep as `json.loads` follows: it raises RecursionError near 1,000 levels, for the whole list and not for the one object.
One such object would then hide all others. So an answer that deep is cut at DEEPEST levels, where nothing of ours is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

DEEPEST = 100
# Text is matched as a whole, for the brackets in it. Without `++` and `*+` a text without an end would be tried in all ways.
TEXT_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def parsed(raw: bytes) -> Any:
    """The JSON, with null for what is deeper than DEEPEST where it is too deep to be read. ValueError if it is none."""
    try:
        return json.loads(raw)
    except RecursionError:
        return json.loads(b"".join(_shallow(raw)))


def _shallow(raw: bytes) -> Iterator[bytes]:
    depth = kept_to = 0
    for found in TEXT_OR_BRACKET.finditer(raw):
        if found[0] in (b"[", b"{"):
            depth += 1
            if depth == DEEPEST + 1:
                yield raw[kept_to : found.start()] + b"null"
        elif found[0] in (b"]", b"}"):
            if depth == DEEPEST + 1:
                kept_to = found.end()
            depth -= 1
    if depth <= DEEPEST:
        yield raw[kept_to:]
