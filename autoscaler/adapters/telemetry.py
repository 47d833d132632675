"""What does the controller say about itself? Its log.

Transitions are logged, not the weather: a line when a condition turns or an action is taken, silence while all stays
as it was. Fields have fixed places, so that a line can be cut apart by a machine.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoscaler.core.status import Status  # and with it all that a tick needs: 12 MB that the companion does without

log = logging.getLogger(__name__)


def configure_logging(level: int = logging.INFO) -> None:
    """One line per event on standard error. Of APScheduler only errors: TickLoop counts what it skips."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Transitions:
    """StatusSink that logs what changes, not the weather: a condition that turned, and nothing while all stays."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[bool, str]] = {}

    def report(self, status: Status) -> None:
        """Log every condition whose status or reason is another than at the last tick."""
        for condition in status.conditions:
            name, now = (status.key, condition.type), (condition.status, condition.reason)
            if self._known.get(name) != now:
                log.info("%s %s=%s %s: %s", status.key, condition.type, condition.status, condition.reason, condition.message)
            self._known[name] = now

    def forget(self, key: str) -> None:
        """Log that a fleet is managed no more."""
        log.info("%s is managed no more", key)
        self._known = {name: known for name, known in self._known.items() if name[0] != key}
