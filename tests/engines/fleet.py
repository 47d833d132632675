"""Where do stub engines find each other, and who ends them all?

with StubFleet() as fleet:
    prefill = fleet.start("prefill-0", Launch(Role.PREFILL), Sglang)
    ...
    assert fleet.ledger.ended(End.LOST_BY_ACT) == []
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tests.engines.contract import Contract, Launch
from tests.engines.engine import ANYWHERE, StubEngine
from tests.engines.ledger import Address, End, Ledger


class StubFleet:
    """Engines with one ledger. Leaving the block ends what is left, hanging answers included, as a fault of the test."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.engines: dict[str, StubEngine] = {}  # by name, the last one of that name
        self._at: dict[Address, StubEngine] = {}
        self._ever: list[StubEngine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, name: str, launch: Launch, contract: type[Contract], place: Address = ANYWHERE) -> StubEngine:
        """One more engine, serving when this returns. An earlier one of that name goes on until somebody ends it. Raises OSError
        where one listens at that place.
        """
        engine = StubEngine(name, launch, contract, self.ledger, self, place)
        self.engines[name] = self._at[engine.address] = engine
        self._ever.append(engine)
        return engine

    def at(self, address: Address) -> StubEngine | None:
        """The engine that has, or last had, this address."""
        return self._at.get(address)

    def close(self) -> None:
        """End all at once. Raises what a stub did wrong."""
        for engine in self._ever.copy():
            engine.kill(End.LOST_BY_FAULT)
            engine.http.close()
