"""When is a command asked to end?

By SIGTERM, from a kubelet or a shell, or by SIGINT, from Ctrl-C. A handler runs between two steps of whatever the main
thread is doing, so it may not take a lock that this thread may hold: `threading.Event.set` in a handler waits for ever if
the signal comes while the main thread is inside `Event.wait`. It did so, once in some hundred runs. A SimpleQueue's `put`
is made for that.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """From now on these signals are a wish; the main thread asks whether one was made."""

    def __init__(self) -> None:
        self._wishes: SimpleQueue[int] = SimpleQueue()
        self.wished = False
        for number in SIGNALS:
            signal.signal(number, lambda number, _: self._wishes.put(number))

    def wait(self, patience_s: float | None = None) -> bool:
        """Whether the end was wished for, as soon as it was or after so many seconds; None: however long it takes."""
        if not self.wished:
            with suppress(Empty):
                self._wishes.get(timeout=patience_s)
                self.wished = True
        return self.wished
