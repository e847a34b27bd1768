"""The metric by which points are ranked."""

from typing import Any, NamedTuple

from fairtrial.project.contract import Contract
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
        """Return how its columns begin in the table of a sweep."""
        return f"{self.contract.split}.{self.metric}"

    def value(self, row: Row) -> float:
        """Return the mean over replicas and examples; raises `InputError` if a row has none."""
        try:
            value: float = row["metrics"][self.contract.split][self.metric]["mean"]
        except KeyError:
            raise InputError(f"there is no {self.metric} of {self.contract.split}") from None
        return value

    def rank(self, row: Row) -> float:
        """Return a number that is lower for a better row."""
        return -self.contract.sign(self.metric) * self.value(row)

    def text(self, row: Row, name: str | None = None) -> str:
        """Return mean and standard deviation of a metric, by default that of the goal."""
        name, metric = self.contract.metric(name or self.metric)
        summary = row["metrics"][self.contract.split][name]
        return f"{mean_text(summary['mean'], summary['sd'], metric)} {metric.unit}".rstrip()
