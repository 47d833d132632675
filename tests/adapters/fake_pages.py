"""What do engines and gateways that are not ours show to a scraper? Pages as their documents name every series.

A page (tests/contracts/expositions/*.txt) is an exposition in the classic format, with one addition: `+3` behind a value lets
it grow by 3 at every scrape. Rates and means over any window are then exact.
"""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from autoscaler.core.rejection import RejectionMode, Why
from autoscaler.sidecar.counts import counts, text
from autoscaler.sidecar.ledger import Ledger
from tests.adapters.fake_engines import Engine
from tests.adapters.prometheus_server import PLAIN, Show
from tests.sidecar import states

FOLDER = Path(__file__).parent.parent / "contracts" / "expositions"
_SAMPLE = re.compile(r"(?P<series>[a-zA-Z_:][\w:]*(?:\{[^\n]*\})?) (?P<value>\S+)(?: \+(?P<growth>\S+))?")


def page(name: str) -> Show:
    """The recorded page of that name, one scrape further whenever it is shown. ValueError for a line that is no sample."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    scrapes = 0

    def show(accept: str) -> tuple[str, bytes]:
        nonlocal scrapes
        scrapes += 1
        return PLAIN, "".join(f"{_grown(line, scrapes)}\n" for line in lines).encode()

    return show


def negotiated(engine: Engine) -> Show:
    """An engine whose exporter heeds the Accept header, as those of prometheus_client do when they serve HTTP themselves."""
    registry: Collector = engine.registry

    def show(accept: str) -> tuple[str, bytes]:
        engine.step()
        encode, kind = choose_encoder(accept)
        return kind, encode(registry)

    return show


def door(model: str, mode: RejectionMode, *, rejected: int, readmitted: int, namespace: str = "prod") -> Show:
    """A sidecar's page, in the sidecar's own words. At every scrape it has let 30 requests more in at once, turned `rejected`
    away at their first try for want of prefill, each of these once more, and let `readmitted` of them in at a third. In hindsight
    between a tenth and a fifth of all could have been served.
    """
    ledger, board = Ledger(), states.board(0.0, fleet=f"{namespace}/{model}", model_name=model)
    grows = {(True, Why.FITS, False): 30, (False, Why.TTFT, False): rejected, (False, Why.TTFT, True): rejected}
    grows[True, Why.FITS, True] = readmitted

    def show(accept: str) -> tuple[str, bytes]:
        for (admit, why, again), more in grows.items():
            key = (mode, admit, why, "free", again)
            ledger.verdicts[key] = ledger.verdicts.get(key, 0) + more
        page = text(counts(ledger, board), ledger, board, 0.0)
        for end, share in (("least", 0.1), ("most", 0.2)):
            labels = f'namespace="{namespace}",model_name="{model}",what="could_be_served",end="{end}"'
            page += f"pdautoscaler_sidecar_shadow_share{{{labels}}} {share}\n"
        return PLAIN, page.encode()

    return show


def _grown(line: str, scrapes: int) -> str:
    if not line or line.startswith("#"):
        return line
    sample = _SAMPLE.fullmatch(line)
    if sample is None:
        raise ValueError(f"{line!r} is no sample")
    growth = float(sample["growth"] or 0.0)
    return f"{sample['series']} {float(sample['value']) + scrapes * growth!r}"
