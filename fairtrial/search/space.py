"""What a search may try: ranges and choices in Hydra's syntax, as distributions of Optuna."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fairtrial.project.errors import InputError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import IntervalSweep, Override
    from optuna.distributions import BaseDistribution

LOG_RATIO = 10  # an interval from x to this times x or more gets a logarithmic scale


class Dimension(NamedTuple):
    """A parameter that a search varies."""

    distribution: "BaseDistribution"
    text: Callable[[Any], str]  # of a value of the distribution, as -S takes it
    ends: list[str]  # both ends of an interval or range, or all choices


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

    @property
    def corners(self) -> list[str]:
        """Return the settings of a grid of all ends, which is validated before a search."""
        ends = [f"{name}={','.join(one.ends)}" for name, one in self.dimensions.items()]
        return [*self.fixed, *ends]

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides of a trial, from a value of each distribution."""
        varied = [f"{name}={one.text(values[name])}" for name, one in self.dimensions.items()]
        return [*self.fixed, *varied]


def parse_space(settings: list[str], params: dict[str, Any]) -> Space:
    """Return the space of a search.

    settings: as -S takes them, with Hydra's `interval`, `range`, `choice` and `tag`
        (https://hydra.cc/docs/advanced/override_grammar/extended/).
    params: the values of params.yaml, by dotted name: an interval of a whole number has whole
        numbers.

    Raises `InputError` if a setting cannot be read, or if none has a range or choice.
    """
    from dvc.utils.hydra import to_hydra_overrides
    from hydra.errors import HydraException

    fixed: list[str] = []
    dimensions: dict[str, Dimension] = {}
    for setting in settings:
        name = setting.partition("=")[0]
        try:
            [override] = to_hydra_overrides([setting])
            dimension = _dimension(override, params.get(name))
        except (ArithmeticError, HydraException, ValueError) as error:
            message = str(error).splitlines()[0]
            raise InputError(f"-S {setting}: {message}; see docs/sweeps.md") from None
        if dimension:
            dimensions[name] = dimension
        else:
            fixed.append(setting)
    if not dimensions:
        raise InputError(
            f"-S {' '.join(settings)}: nothing to search; give a range, such as "
            "'train.lr=interval(0.001,1)'"
        )
    return Space(fixed, dimensions)


def _dimension(override: "Override", value: object) -> Dimension | None:
    """Return the range or choices of a setting, or None if it has one value.

    value: of the parameter in params.yaml. Raises `ValueError` if the setting is wrong.
    """
    from hydra.core.override_parser.types import IntervalSweep
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if not override.is_sweep_override():
        return None
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return _interval(sweep, value)
    if tags := getattr(sweep, "tags", None):
        raise ValueError(f"the tag {', '.join(sorted(tags))} belongs to an interval")
    texts = list(override.sweep_string_iterator())
    if override.is_range_sweep():
        distribution = IntDistribution(0, len(texts) - 1)  # the positions: the values have an order
        return Dimension(distribution, texts.__getitem__, [texts[0], texts[-1]])
    return Dimension(CategoricalDistribution(texts), str, texts)


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
        return Dimension(IntDistribution(*whole, log=is_log), str, [*map(str, whole)])

    def text(number: float) -> str:
        # Four digits are enough to tell two trials apart, and to be typed again.
        return f"{min(max(float(f'{number:.4g}'), low), high)!r}"

    return Dimension(FloatDistribution(low, high, log=is_log), text, [text(low), text(high)])
