"""What time is it? The system's wall clock, since samples and replicas carry wall-clock times."""

from __future__ import annotations

import time


class SystemClock:
    """Seconds since 1970."""

    def now(self) -> float:
        """Wall-clock seconds."""
        return time.time()
