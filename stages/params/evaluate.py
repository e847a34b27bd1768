"""The section `evaluate` of `params.yaml`."""

from pydantic import Field

from stages.params import Section


class Evaluate(Section):
    calibration_bins: int = Field(gt=0, le=1_000)
    mistakes: int = Field(gt=0, le=100)
