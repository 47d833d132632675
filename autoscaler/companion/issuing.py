"""Where does the serving certificate come from, and when is there another one?

    PairFiles    two files that somebody else renews (a mounted Secret of cert-manager)
    SharedPair   made by ourselves, kept with the other replicas in one Secret (rotation.py), and made known to API servers

Both are looked at again and again and answer with the pair to serve, or why there is none; who asks goes on with the last
one. A file pair is read whole each time, 10 us, rather than watched: a change is seen whatever way the files were exchanged.
Files that do not belong together are half written; they are told, and read again at the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from autoscaler.companion.certificates import Pair, issue, new_keys
from autoscaler.companion.rotation import LIFETIME_S, OVERLAP_S, Held, read, step, written
from autoscaler.refusal import Refusal

LARGEST = 1_000_000  # bytes of a file; a chain has some 5,000


class Content(Protocol):
    """What a store held when it was read."""

    @property
    def entries(self) -> Mapping[str, bytes]:
        """By name."""
        ...


C = TypeVar("C", bound=Content)


class Source(Protocol):
    """Where certificates come from."""

    every_s: float

    def look(self, now: float, /) -> Pair | Refusal:
        """The pair to serve at `now` (seconds since 1970), or why there is none."""
        ...


class PairFiles:
    """A certificate and its key in PEM files."""

    every_s = 1.0

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key

    def look(self, _now: float) -> Pair | Refusal:
        """What stands in the files; whether it can be served is for tls.py to say."""
        try:
            return Pair(_bytes(self._certificate), _bytes(self._key))
        except OSError as error:
            return Refusal(f"{error.filename}: {error.strerror}")


class SharedPair(Generic[C]):
    """A pair of our own. `load` and `save` keep it; a `save` of what somebody else changed meanwhile is refused. `trust` makes
    a bundle known to API servers and tells who does not know it yet.
    """

    every_s = 30.0

    def __init__(
        self,
        load: Callable[[], C | Refusal],
        save: Callable[[C, Mapping[str, bytes]], C | Refusal],
        trust: Callable[[bytes], Sequence[str]],
        names: Sequence[str],
        *,
        lifetime_s: float = LIFETIME_S,
        overlap_s: float = OVERLAP_S,
    ) -> None:
        self._load, self._save, self._trust, self._names = load, save, trust, tuple(names)
        self._lifetime_s, self._overlap_s = lifetime_s, overlap_s
        self.untrusted: Sequence[str] = ()

    def look(self, now: float) -> Pair | Refusal:
        """The pair of all replicas, after one step of its rotation where one is due."""
        content = self._load()
        if isinstance(content, Refusal):
            return content
        held = read(content.entries, now)
        known = held is not None and self._make_known(held)
        due = step(held, now, self._names, lambda: issue(now, self._names, self._lifetime_s, new_keys()), known=known,
                   overlap_s=self._overlap_s)  # fmt: skip
        if held is not None and due == held:
            return held.serving
        saved = self._save(content, written(due))
        if not isinstance(saved, Refusal):
            self._make_known(due)
            return due.serving
        return saved if held is None else held.serving  # somebody was faster, or it is tried again at the next look

    def _make_known(self, held: Held) -> bool:
        self.untrusted = self._trust(held.bundle)
        return not self.untrusted


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST)
