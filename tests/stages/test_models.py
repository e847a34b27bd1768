"""The models, compared with torch's layers and with the schema of params.yaml."""

import math
from collections.abc import Collection
from types import ModuleType
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

import samebits
from samebits import plain_float32, seeded_generator
from stages.learning.checkpoints import MAX_WIDTH
from stages.learning.models import ARITHMETIC, MODELS, build_model, predict
from stages.params.train import Train
from tests.helpers.training import CLASSES, SHAPE, TRAIN, WIDTHS, train_params


@pytest.mark.parametrize("ops", [samebits, plain_float32])
@pytest.mark.parametrize("name", MODELS)
def test_uint8_and_float32_images_give_the_same_logits(name: str, ops: ModuleType) -> None:
    model = build_model(name, WIDTHS[name], SHAPE, CLASSES, seeded_generator(0, "weights"), ops)
    images = torch.randint(0, 256, (42, 1, 28, 28), dtype=torch.uint8)
    logits = predict(model, images)
    assert logits.shape == (42, 10)
    # A convolution has few terms and small weights, which float32 rounds as much as the grid.
    torch.testing.assert_close(predict(model, images / 255), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ops", [samebits, plain_float32])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("channels", "size", "classes"),
    [(1, 8, 10), (3, 9, 2), (3, 16, 3), (1, 28, 26), (3, 32, 4), (1, 64, 300), (3, 128, 5)],
)
def test_a_model_is_built_and_trained_for_any_shape_and_number_of_classes(
    name: str, ops: ModuleType, channels: int, size: int, classes: int
) -> None:
    shape = channels, size, size
    generator = seeded_generator(0, "weights")
    model = build_model(name, WIDTHS[name], shape, classes, generator, ops)
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert predict(model, images).shape == (3, classes)
    model.train()
    gradients = torch.autograd.grad(model(images).square().sum(), list(model.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (8, [6, 2]),
        (9, [7, 2]),
        (15, [13, 5, 3]),
        (16, [14, 6, 4]),
        (28, [26, 12, 10, 4, 2]),
        (32, [30, 14, 12, 5, 3]),
        (64, [62, 30, 28, 13, 11, 4, 2]),
        (128, [126, 62, 60, 29, 27, 12, 10, 4, 2]),
    ],
)
def test_the_sizes_of_an_image_on_its_way_through_the_convolutions(
    size: int, sizes: list[int]
) -> None:
    model = build_model("cnn", 2, (3, size, size), 4, seeded_generator(0, "weights"), plain_float32)
    x = torch.rand(2, 3, size, size)
    passed = []
    for convolution in model.get_submodule("convolutions").children():
        x = convolution(x)
        passed.append(x.shape[2])
    assert passed == sizes
    channels = 2 ** (1 + (len(sizes) - 1) // 2)
    assert x.shape == (2, channels, sizes[-1], sizes[-1])


def test_the_convolutional_model_equals_torchs_layers() -> None:
    model = build_model("cnn", 3, SHAPE, CLASSES, seeded_generator(0, "weights"), plain_float32)
    weights = model.state_dict()
    layers: list[torch.nn.Module] = []
    in_channels = 1
    for number, out_channels in enumerate((3, 3, 6, 6, 12)):
        convolution = torch.nn.Conv2d(in_channels, out_channels, 3, bias=False)
        convolution.weight.data = weights[f"convolutions.{number}.weight"]
        pooling = [torch.nn.MaxPool2d(2)] if number in (1, 3) else []
        layers += [convolution, *pooling, torch.nn.BatchNorm2d(out_channels), torch.nn.ReLU()]
        in_channels = out_channels
    last = torch.nn.Linear(48, 10)
    last.weight.data, last.bias.data = weights["weight"], weights["bias"]
    expected = torch.nn.Sequential(*layers, torch.nn.Flatten(), last)
    images = TRAIN.images[:20]
    for training in (True, False):  # evaluation uses the statistics that training has updated
        expected.train(training)
        model.train(training)
        torch.testing.assert_close(model(images), expected(images / 255), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "fan_in"), [("linear", 784), ("mlp", 784), ("cnn", 9)])
def test_initial_weights_have_the_distribution_of_torchs_layers(name: str, fan_in: int) -> None:
    width = 500 if name != "linear" else 0
    filters = build_model(name, width, SHAPE, CLASSES, seeded_generator(0, "weights")).filters
    bound = 1 / math.sqrt(fan_in)
    assert filters.abs().max() <= bound
    assert filters.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize(
    ("parameter", "names"),
    [("model", MODELS), ("device", ARITHMETIC)],
)
def test_the_schema_has_the_names_of_the_code(parameter: str, names: Collection[str]) -> None:
    assert get_args(Train.model_fields[parameter].annotation) == tuple(names)


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_has_the_widths_of_the_models(name: str) -> None:
    """`width` is the number of filters of the first layer; the linear model takes 0 alone."""
    valid, invalid = [0], [-1, 1, MAX_WIDTH + 1]
    if name != "linear":
        valid, invalid = [1, 7, MAX_WIDTH], [-1, 0, MAX_WIDTH + 1]
    for width in valid:
        params = train_params(model=name, width=width)
        filters = build_model(name, params.width, SHAPE, CLASSES, torch.Generator()).filters
        assert len(filters) == (width if name != "linear" else 10)
    for width in invalid:
        with pytest.raises(ValidationError, match="width"):
            train_params(model=name, width=width)
