"""What has one check of `preflight` found?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What one check found: `fine`, or what is `lost`; `needed`: without it nothing goes. `age_s` where it has an age."""

    name: str
    state: str
    fine: bool
    needed: bool
    detail: str
    lost: str = ""
    age_s: float | None = None

    @property
    def bars(self) -> bool:
        """Whether a controller would have to do without something it needs."""
        return self.needed and not self.fine
