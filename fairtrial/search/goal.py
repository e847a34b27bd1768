"""The metric by which points are ranked."""

from typing import Any, NamedTuple

from fairtrial.project.contract import Contract, Metric
from fairtrial.project.errors import InputError
from fairtrial.tables import mean_text

Row = dict[str, Any]  # key and overrides of a point, and what a worker returns


class Goal(NamedTuple):
    """A metric of the contract, on the split by which settings are chosen."""

    contract: Contract
    metric: str

    @property
    def title(self) -> str:
        return f"{self.metric} on {self.contract.split}"

    @property
    def column(self) -> str:
        """Return the name of its column in the table of a sweep."""
        return f"{self.contract.split}.{self.metric}.mean"

    @property
    def sd_column(self) -> str:
        return f"{self.contract.split}.{self.metric}.sd"

    @property
    def sign(self) -> int:
        return self.contract.sign(self.metric)

    def value(self, row: Row) -> float:
        """Return the mean over replicas and examples; raises `InputError` if a row has none."""
        try:
            value: float = row["metrics"][self.contract.split][self.metric]["mean"]
        except KeyError:
            raise InputError(f"there is no {self.metric} of {self.contract.split}") from None
        return value

    def rank(self, row: Row) -> float:
        """Return a number that is lower for a better row."""
        return -self.sign * self.value(row)

    def text(self, row: Row) -> str:
        """Return mean and standard deviation with the unit of the metric."""
        metric = self.contract.metrics[self.metric]
        text = summary_text(row["metrics"][self.contract.split][self.metric], metric)
        return f"{text} {metric.unit}".rstrip()


def summary_text(summary: dict[str, Any], metric: Metric) -> str:
    """Return a mean over replicas, and its standard deviation if there are several."""
    return mean_text(summary["mean"], summary["sd"], metric)
