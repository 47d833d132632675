"""Are the fits of ARIMA told as they stand at each scrape?"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from autoscaler.adapters.own_metrics import Fits, OwnMetrics


def told(metrics: OwnMetrics) -> dict[tuple[str, str], float]:
    """The samples about ARIMA by name and result."""
    families = text_string_to_metric_families(metrics.page()[0].decode())
    samples = (sample for family in families for sample in family.samples if "arima" in sample.name)
    return {
        (sample.name.removeprefix("pd_autoscaler_arima_"), sample.labels.get("result", "")): sample.value for sample in samples
    }


def test_fits_are_asked_for_at_each_scrape_and_are_zero_until_somebody_fits() -> None:
    metrics, counts = OwnMetrics(15.0), [Fits(fitted=5, failed=1, warnings=2), Fits(fitted=8, failed=4, warnings=3, restarts=1)]
    names = ("fits_total", "fitted"), ("fits_total", "failed"), ("warnings_total", ""), ("worker_restarts_total", "")
    assert told(metrics) == dict.fromkeys(names, 0.0)
    metrics.count_fits(lambda: counts.pop(0))
    assert list(told(metrics).values()) == [5, 1, 2, 0]
    assert told(metrics) == dict(zip(names, (8, 4, 3, 1), strict=True))
