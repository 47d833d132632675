"""How do all tests run? Properties try the same examples every time and know no deadline, since machines differ.

`make test-unit` tries three of ten; `pytest --hypothesis-profile=explore` looks further, with new examples each time. What
is dear tries a share of these (examples.py).

Once all tests are collected, what they are made of stays to the end: the garbage collector need not walk it again and again.
That and rarer walks save 7 % of the CPU time of `make test-unit` (40.4 s to 37.5 s).
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.examples import HOUSE

settings.register_profile("house", deadline=None, derandomize=True, max_examples=HOUSE)
settings.register_profile("quick", settings.get_profile("house"), max_examples=HOUSE * 3 // 10)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("house")


def pytest_collection_finish() -> None:
    """From here on only what the tests themselves make is looked through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real traces and profiles: PDA_SHARED, by default the one beside the checkout."""
    return Path(os.environ.get("PDA_SHARED", Path(__file__).parents[1] / ".." / "shared")).resolve()
