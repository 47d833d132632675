"""How do all tests run? Properties try the same examples every time and know no deadline, since machines differ.

`make test-unit` tries half as many; `pytest --hypothesis-profile=explore` looks further, with new examples each time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("quick", settings.get_profile("house"), max_examples=25)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("house")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real traces and profiles: PDA_SHARED, by default the one beside the checkout."""
    return Path(os.environ.get("PDA_SHARED", Path(__file__).parents[1] / ".." / "shared")).resolve()
