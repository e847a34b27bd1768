"""What a sweep may try: values, ranges and choices in Hydra's syntax, for a grid or for Optuna."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fairtrial.project.errors import InputError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import IntervalSweep, Override
    from optuna.distributions import BaseDistribution

LOG_RATIO = 10  # an interval from x to this times x or more gets a logarithmic scale
MAX_POINTS = 100_000  # to check them takes 20 minutes


class Dimension(NamedTuple):
    """A parameter that varies; its values are texts, as -S takes them."""

    distribution: "BaseDistribution"
    text: Callable[[Any], str]  # of a value of the distribution
    ends: list[str]  # both ends of an interval or range, or all choices
    values: list[str] | None  # all of a range, or all choices; None for an interval


class Space(NamedTuple):
    fixed: list[str]  # overrides with one value, as -S takes them
    dimensions: dict[str, Dimension]  # by the name of the parameter

    @property
    def default(self) -> list[str]:
        """Return the overrides of what the best is compared with: params.yaml, on the same data.

        A fixed value in a section that the search varies belongs to the search: it may contradict
        the rest of that section in params.yaml.
        """
        sections = {name.rpartition(".")[0] for name in self.dimensions}
        return [
            one for one in self.fixed if one.partition("=")[0].rpartition(".")[0] not in sections
        ]

    def corners(self) -> list[list[str]]:
        """Return the overrides of all combinations of ends, which are checked before a search."""
        return self._product({name: one.ends for name, one in self.dimensions.items()})

    def grid(self) -> list[list[str]]:
        """Return the overrides of all combinations; raises `InputError` if there is an interval."""
        values = {}
        for name, one in self.dimensions.items():
            if one.values is None:
                raise InputError(f"-S {name}: an interval has no end of values; add --trials N")
            values[name] = one.values
        return self._product(values)

    def _product(self, values: dict[str, list[str]]) -> list[list[str]]:
        """Return the overrides of all combinations; raises `InputError` if they are too many."""
        if math.prod(map(len, values.values())) > MAX_POINTS:
            raise InputError(
                f"-S: more than {MAX_POINTS:,} points; give fewer values, or sweep over a part of "
                "them at a time"
            )
        overrides = [[f"{name}={text}" for text in texts] for name, texts in values.items()]
        return [[*self.fixed, *varied] for varied in itertools.product(*overrides)]

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides of a trial, from a value of each distribution."""
        varied = [f"{name}={one.text(values[name])}" for name, one in self.dimensions.items()]
        return [*self.fixed, *varied]


def parse_space(settings: list[str], params: dict[str, Any]) -> Space:
    """Return what a sweep may try.

    settings: as -S takes them, with Hydra's `interval`, `range`, `choice` and `tag`
        (https://hydra.cc/docs/advanced/override_grammar/extended/).
    params: the values of params.yaml, by dotted name: an interval of a whole number has whole
        numbers.

    Raises `InputError` if a setting cannot be read, or if a parameter has two.
    """
    from dvc.utils.hydra import to_hydra_overrides
    from hydra.errors import HydraException

    names = [setting.partition("=")[0] for setting in settings]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"-S: {', '.join(repeated)} more than once; give all values in one -S")
    fixed: list[str] = []
    dimensions: dict[str, Dimension] = {}
    for name, setting in zip(names, settings, strict=True):
        try:
            [override] = to_hydra_overrides([setting])
            dimension = _dimension(override, params.get(name))
        except (ArithmeticError, HydraException, ValueError) as error:
            message = str(error).splitlines()[0]
            raise InputError(
                f"-S {setting}: {message}; write NAME=VALUES, such as train.lr=0.01,0.03"
            ) from None
        if dimension:
            dimensions[name] = dimension
        else:
            fixed.append(setting)
    return Space(fixed, dimensions)


def _dimension(override: "Override", value: object) -> Dimension | None:
    """Return the range or choices of a setting, or None if it has one value.

    value: of the parameter in params.yaml. Raises `ValueError` if the setting is wrong.
    """
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if not override.is_sweep_override():
        return None
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return _interval(sweep, value)
    if tags := getattr(sweep, "tags", None):
        raise ValueError(f"the tag {', '.join(sorted(tags))} belongs to an interval")
    if not isinstance(sweep, RangeSweep):
        texts = list(override.sweep_string_iterator())
        return Dimension(CategoricalDistribution(texts), str, texts, texts)
    # A range may have no end.
    texts = [str(number) for number in itertools.islice(sweep.range(), MAX_POINTS + 1)]
    if not texts:
        raise ValueError("the range has no values")
    distribution = IntDistribution(0, len(texts) - 1)  # the positions: the values have an order
    return Dimension(distribution, texts.__getitem__, [texts[0], texts[-1]], texts)


def _interval(sweep: "IntervalSweep", value: object) -> Dimension:
    """Return the dimension of an interval; raises `ValueError` if it is not one."""
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high = float(sweep.start or 0), float(sweep.end or 0)
    if not math.isfinite(high - low) or low >= high:
        raise ValueError(f"an interval goes up from its start to its end, not {low:g} to {high:g}")
    if unknown := sweep.tags - {"log", "linear"}:
        raise ValueError(f"unknown tag {', '.join(sorted(unknown))}; there are log and linear")
    if "log" in sweep.tags and low <= 0:
        raise ValueError(f"a logarithmic interval starts above 0, not at {low:g}")
    is_log = "log" in sweep.tags or ("linear" not in sweep.tags and high >= LOG_RATIO * low > 0)
    if type(value) is int:
        whole = math.ceil(low), math.floor(high)
        if whole[0] >= whole[1]:
            raise ValueError(f"there are not two whole numbers from {low:g} to {high:g}")
        return Dimension(IntDistribution(*whole, log=is_log), str, [*map(str, whole)], None)

    def text(number: float) -> str:
        # Four digits are enough to tell two trials apart, and to be typed again.
        return f"{min(max(float(f'{number:.4g}'), low), high)!r}"

    return Dimension(FloatDistribution(low, high, log=is_log), text, [text(low), text(high)], None)
