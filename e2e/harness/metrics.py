"""The Prometheus page, parsed by Prometheus's own client."""

from prometheus_client.parser import text_string_to_metric_families


class Metrics:
    """One scrape."""

    def __init__(self, text: str):
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Sum over the samples of this name that carry these labels; the name must exist."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"/metrics has no sample {name} with {labels}"
        return sum(found)

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}
