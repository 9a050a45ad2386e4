"""One scrape as prometheus-client wants it: values put under the names of controller.metric_families, and written out."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from controller.metric_families import FAMILIES, INFO


class Sheet(Collector):
    def __init__(self) -> None:
        self._metrics = {family.name: Metric(family.name, family.help, family.type) for family in FAMILIES}
        self._families = {family.name: family for family in FAMILIES}

    def put(self, name: str, value: float, *labels: str) -> None:
        """`labels` in the order of the family's; an info has the value 1."""
        family = self._families[name]
        self._metrics[name].add_sample(family.shown, dict(zip(family.labels, labels, strict=True)), value)

    def info(self, name: str, *labels: str) -> None:
        if self._families[name].type != INFO:
            raise ValueError(name)
        self.put(name, 1, *labels)

    def collect(self) -> Iterable[Metric]:
        """A metric without a value is left out."""
        return [metric for metric in self._metrics.values() if metric.samples]


def written(sheet: Sheet, accept: str) -> tuple[bytes, str]:
    """The text and its media type: OpenMetrics where the scraper takes it, else Prometheus's own form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(sheet)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
