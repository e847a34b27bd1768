"""What is said of a bad params.yaml, and that a good one means what DVC takes it for."""

from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from stages.check import Params
from stages.params import load_params
from stages.params.train import Train
from stages.storage.errors import InputError
from tests.helpers.cards import SOURCES
from tests.helpers.project import DEFAULT, Project

# Nine levels of ten aliases: a thousand million numbers, if somebody wrote them out.
LEVELS = [f"&a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 10)]
BOMB = f"[&a0 [1], {', '.join(LEVELS)}]"
LIST = f"[{', '.join('1' * 1_000)}]"
pytestmark = pytest.mark.usefixtures("valid_default")
GOOD = (DEFAULT / "params.yaml").read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("sources").symlink_to(SOURCES)
    return tmp_path


def problems(text: str | bytes) -> list[str]:
    Path("params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        load_params(Params)
    return str(caught.value).splitlines()


def changed(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def test_the_committed_file_is_valid() -> None:
    Path("params.yaml").write_text(GOOD)
    assert load_params(Params).train == load_params(Train, "train")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("  lr:", "  lrr:", "train.lrr: unknown parameter; did you mean lr?"),
        ("  lr:", "  lrr:", "train.lr: missing; every section and parameter has to be given"),
        ("  lr: 0.01", "  lr: 0", "train.lr: input should be greater than 0, not 0"),
        ("  lr: 0.01", "  lr: fast", "train.lr: input should be a valid number, not 'fast'"),
        ("  lr: 0.01", "  lr: '0.1'", "train.lr: input should be a valid number, not '0.1'"),
        ("  lr: 0.01", "  lr: 0,1", "train.lr: input should be a valid number, not '0,1'"),
        ("  lr: 0.01", "  lr: true", "train.lr: input should be a valid number, not True"),
        ("  lr: 0.01", "  lr: .inf", "train.lr: input should be a finite number, not inf"),
        ("  lr: 0.01", "  lr:", "train.lr: input should be a valid number, not None"),
        ("epochs: 10", "epochs: 1.5", "train.epochs: input should be a valid integer, not 1.5"),
        ("momentum: 0.0", "momentum: 1", "train.momentum: input should be less than 1, not 1"),
        (
            "sampling: stratified",
            "sampling: strat",
            "prepare.sampling: input should be 'first', 'random' or 'stratified', not 'strat'",
        ),
        ("drop_last: false", "drop_last: no", "train.drop_last: input should be a valid boolean"),
        ("train_size: 2000", "train_size: 2001", "prepare: train_size 2001 + val_size 500 is more"),
        ("train:\n", "trian:\n", "trian: unknown parameter; did you mean train?"),
        ("train:\n", "trian:\n", "train: missing; every section and parameter has to be given"),
        ("evaluate:\n", "evaluate: 3\nx:\n", "evaluate: should be a section of `key: value` lines"),
        ("evaluate:\n", "evaluate: 3\nx:\n", "x: unknown parameter; known are fetch, prepare,"),
        ("batch_size: 64", "batch_size: 99999999999999999999", "train.batch_size: should be"),
        ("seed: 0               # of the", f"seed: 0x{'f' * 4_000} # ", "train.seed: input should"),
        ("  lr: 0.01", f"  lr: 0x{'f' * 4_000}", "train.lr: input should be"),
        ("train_size: 2000", "train_size: all", "prepare.train_size: should be a number of images"),
        ("val_size: 500", "val_size: 1.5", "prepare.val_size: should be a number of images above"),
        (
            "test_fraction: auto",
            "test_fraction: 1",
            "fetch.test_fraction: should be a fraction above 0 and below",
        ),
        (
            "test_fraction: auto",
            "test_fraction: 0.3",
            "fetch: test_fraction: sources/mnist-5k.yaml has a test",
        ),
        (
            "size: 28",
            "size: 32",
            "fetch: sources/mnist-5k.yaml has images of 28 x 28 pixels in grey",
        ),
        (
            "sources/mnist-5k.yaml",
            "sources/none.yaml",
            "fetch: source: 'sources/none.yaml': No such file",
        ),
        (
            "sources/mnist-5k.yaml",
            "https://a.b/c",
            "fetch.source: should be a path; `dvc import-url",
        ),
        (
            "train_size: 2000",
            f"train_size: 0x{'f' * 4_000}",
            "prepare.train_size: should be a number of images",
        ),
        (
            "  lr: 0.01",
            f"  lr: {LIST}",
            "train.lr: input should be a valid number, not a list",
        ),
        ("  mistakes:", "  seed:", "evaluate.seed: unknown parameter; known are calibration_bins"),
        ("mnist-5k.yaml", "cifar.yaml", "fetch: source: 'sources/cifar.yaml': No such file"),
        ("optimizer: sgd ", "optimizer: adamw ", "train.weight_decay: adamw without it is adam"),
        ("width: 0 ", "width: 9 ", "train.width: linear has no width; set it to 0, not 9"),
        ("model: linear ", "model: mlp ", "train.width: mlp needs a width; set it to 128"),
        ("width: 0 ", "width: 513 ", "train.width: input should be less than or equal to 512"),
        ("nesterov: false", "nesterov: true", "train.nesterov: needs a momentum above 0"),
        ("batch_size: 64", "batch_size: all", "train.batch_size: should be a number of images"),
        ("batch_size: 64", "batch_size: 0", "train.batch_size: should be a number of images"),
        ("batch_size: 64", "batch_size: true", "train.batch_size: should be a number of images"),
        ("batch_size: 64", f"batch_size: {LIST}", "train.batch_size: should be a number of"),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(old: str, new: str, line: str) -> None:
    assert any(found.startswith(f"params.yaml: {line}") for found in problems(changed((old, new))))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            [("optimizer: sgd", "optimizer: adam"), ("momentum: 0.0", "momentum: 0.9")],
            "train.momentum: adam has no momentum; set it to 0, not 0.9",
        ),
        (
            [("batch_size: 64", "batch_size: full"), ("drop_last: false", "drop_last: true")],
            "train.drop_last: the full batch has no rest to leave out; set it to false",
        ),
        (
            [("model: linear ", "model: cnn ")],
            "train.width: cnn needs a width; set it to 16",
        ),
        (
            [("mnist-5k.yaml", "mnist.yaml"), ("train_size: 2000", "train_size: 60000")],
            "prepare: train_size 60000 + val_size 500 is more than the 60000 images",
        ),
    ],
)
def test_parameters_are_checked_against_each_other(
    changes: list[tuple[str, str]], line: str
) -> None:
    [found] = problems(changed(*changes))
    assert found.startswith(f"params.yaml: {line}")


def test_all_problems_come_at_once() -> None:
    lines = problems(
        changed(
            ("  lr: 0.01", "  lr: -1"),
            ("train_size: 2000", "train_size: 9999"),
            ("mistakes: 18", "mistakes: few"),
            ("sampling:", "samplin:"),
        )
    )
    places = [line.split(": ")[1] for line in lines]
    assert places == ["prepare.sampling", "prepare.samplin", "train.lr", "evaluate.mistakes"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "has no sections"),
        ("# nothing but a remark\n", "has no sections"),
        ("- fetch\n- train\n", "has no sections"),
        ("train: [1,\n", "line 2, column 1: not valid YAML"),
        pytest.param("train: " + "[" * 100_000, "line 1: nested deeper than 50", id="deep"),
        pytest.param("train: " + "[" * 200_000, "longer than 150,000 bytes", id="long"),
        pytest.param(f"train: {BOMB}", "line 1: an alias is not supported", id="bomb"),
        ("train:\n\tlr: 1\n", "line 2, column 1: not valid YAML"),
        ("train: {lr: 1, lr: 2}\n", "line 1, column 16: not valid YAML (found duplicate key"),
        (b"train: \xff\n", "not UTF-8 text"),
        ("train: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(text: str | bytes, line: str) -> None:
    [found] = problems(text)
    assert line in found
    assert found.startswith("params.yaml: ")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"params.yaml: cannot be read .*; run from the top"):
        load_params(Params)


@pytest.mark.parametrize("written", ["1e-05", "1e-3", "1e3", "010", "1_000", "0o10", "1.5e2"])
def test_a_number_is_the_one_that_dvc_reads(written: str) -> None:
    text = changed(("  lr: 0.01", f"  lr: {written}"))
    Path("params.yaml").write_text(text)
    seen_by_dvc = parse_yaml(text, "params.yaml")["train"]["lr"]
    assert isinstance(seen_by_dvc, int | float)
    assert load_params(Train, "train").lr == seen_by_dvc


def test_yes_is_a_word() -> None:
    text = changed(("drop_last: false", "drop_last: yes"))
    assert parse_yaml(text, "params.yaml")["train"]["drop_last"] == "yes"
    assert problems(text) == [
        "params.yaml: train.drop_last: input should be a valid boolean, not 'yes'"
    ]


@pytest.mark.parametrize("stage", ["check", "fetch", "prepare", "train", "evaluate"])
def test_every_stage_refuses_before_it_works(project: Project, stage: str) -> None:
    section = "train" if stage == "check" else stage
    project.edit("params.yaml", f"{section}:\n", f"{section}:\n  surplus: 1\n")
    said = project.refused(stage)
    assert said.startswith(f"params.yaml: {section}.surplus: unknown parameter")
    assert len(said.splitlines()) == 1
    assert project.run("git", "diff", "--name-only").stdout == "params.yaml\n"
