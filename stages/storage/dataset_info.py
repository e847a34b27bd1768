"""What a data set says of its images.

In a module of its own, so that the stages that read no images do without NumPy.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_CLASSES = 1_000
MAX_SIZE = 224  # pixels
MIN_SIZE = 8
Side = Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# strokes: light strokes on black, which are cut out and centred | light_on_black: other light
# things on black | natural: pictures as they are
Style = Literal["strokes", "light_on_black", "natural"]
Values = Annotated[tuple[float, float], Field(strict=False)]


def optional() -> Any:
    """Return a field that is left out where it is None, as it is in a data card."""
    return Field(default=None, exclude_if=lambda value: value is None)


class DatasetInfo(BaseModel):
    """What a data set says of its images: their shape, their classes, and how they look."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    # In YAML and JSON both are lists.
    shape: Annotated[tuple[Literal[1, 3], Side, Side], Field(strict=False)]  # C, H, W
    classes: Annotated[
        tuple[ClassName, ...], Field(strict=False, min_length=2, max_length=MAX_CLASSES)
    ]
    style: Style
    ink_box: Annotated[int, Field(gt=0)] | None = None  # pixels that strokes are scaled to fit
    # Of pictures of one's own, so that others are read as they were:
    range: Values | None = optional()  # values deeper than 8 bits that are black and white
    background: Literal["white", "black"] | None = optional()  # behind what is transparent
    border: Values | None = optional()  # from the darkest to the lightest border of an image

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape[1] != self.shape[2]:
            raise ValueError(f"images of {self.shape[1]} x {self.shape[2]} pixels are not square")
        if (self.style == "strokes") != (self.ink_box is not None):
            raise ValueError("ink_box is given exactly when the style is strokes")
        if self.ink_box and self.ink_box > self.shape[1]:
            raise ValueError(f"ink_box is larger than the image, {self.shape[1]} pixels")
        if self.ink_box and self.shape[0] != 1:
            raise ValueError("strokes are grey: their images have one channel")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError("range has to go from black to a larger value, white")
        if names := [name for name in self.classes if not name.isprintable()]:
            raise ValueError(f"the class name {names[0]!r} cannot be printed")
        return self
