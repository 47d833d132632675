"""What does a scraper read from an engine's page?"""

from __future__ import annotations

from urllib.request import ProxyHandler, build_opener

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.engines.engine import StubEngine


def scraped(engine: StubEngine) -> dict[str, Metric]:
    """The families by name, as prometheus_client's own parser reads them."""
    with build_opener(ProxyHandler({})).open(f"{engine.url}/metrics", timeout=10) as page:
        return {family.name: family for family in text_string_to_metric_families(page.read().decode())}


def total(engine: StubEngine, *names: str) -> float:
    """The sum of all samples of these families; a missing one is a KeyError."""
    families = scraped(engine)
    return sum(sample.value for name in names for sample in families[name].samples)
