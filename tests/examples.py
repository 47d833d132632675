"""How many examples does a dear law try? So many in `make test`, fewer or more in proportion in the other profiles.

A law whose every example is a run of a whole fleet cannot afford the 50 of the house profile, and one whose examples are
cheap wants more. Written as a bare `settings(max_examples=15)` it would try 15 in `make test-unit` too, and no more when
somebody looks further: with `@examples(15)` that is 5 in the quick profile (15 of 50), 15 in the house's, 600 in `explore`.
"""

from __future__ import annotations

from hypothesis import settings

HOUSE = 50  # what `make test` tries of a law that says nothing


def examples(in_the_house: int) -> settings:
    """Settings for a law that tries `in_the_house` examples where others try 50, and in proportion elsewhere."""
    return settings(max_examples=-(-in_the_house * settings().max_examples // HOUSE))
