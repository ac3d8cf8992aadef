"""Commands of researchers on a small folder of images: what they make and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from conftest import CLASSES, SmallStore, random_images
from PIL import Image
from typer.testing import CliRunner

from model_store.store import Store, encode_weights, weights_sha256
from model_store.training.checkpoint import load_average
from model_store.training.recipes import RECIPES
from service.cli import app

TINY = {"num_classes": 10, "channels": 8, "growth": 4, "layers_per_block": [1, 1]}
SMALL = RECIPES["cifar10-fusion-control"].changed(
    arguments=TINY, epochs=1, small_epochs=0, warmup_epochs=0, batch_size=32
)
TAUGHT = {"teacher": "tutor", "teacher_weight": 0.5, "teacher_with_start": True, "teacher_once": True}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten folders of images to train on, ten to test."""
    root = tmp_path_factory.mktemp("images")
    for part, count in (("train", 800), ("test", 40)):
        for i, image in enumerate(random_images(count)):
            path = root / part / CLASSES[i % 10] / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return str(root)


@pytest.fixture
def exitramp(monkeypatch: pytest.MonkeyPatch, data: str, tmp_path: Path) -> CommandLine:
    monkeypatch.setattr("model_store.training.data.HELD_OUT_ROWS", 600)
    return CommandLine(data, tmp_path)


class CommandLine:
    """Runs commands on ``data``, runs and store in ``folder``."""

    def __init__(self, data: str, folder: Path) -> None:
        self.data, self.runs, self.store = data, folder / "runs", folder / "store"

    def __call__(self, *arguments: str) -> Result:
        result: Result = CliRunner().invoke(app, [*arguments, "--data", self.data])
        return result

    def train(self, recipe: str, *options: str) -> Result:
        places = ("--runs", str(self.runs), "--store", str(self.store))
        return self("train", recipe, *places, "--no-compile", *options)


def refused(result: Result) -> str:
    assert result.exit_code != 0 and result.exception is not None
    return str(result.exception)


def test_a_teacher_then_its_pupil(exitramp: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = {"tutor": SMALL, "pupil": SMALL.changed(start="tutor", **TAUGHT)}
    monkeypatch.setattr("model_store.training.recipes.RECIPES", recipes)
    assert "exitramp train tutor --no-publish" in refused(exitramp.train("pupil"))
    told = exitramp.train("tutor", "--no-publish")
    assert told.exit_code == 0 and told.stderr.count("%") >= 2 and not exitramp.store.exists()
    tutor = weights_sha256(encode_weights(load_average(SMALL, exitramp.runs / "tutor")))
    assert exitramp.train("pupil").exit_code == 0
    provenance = Store(exitramp.store).read_manifest("pupil").provenance
    assert (provenance.start_sha256, provenance.teacher_sha256) == (tutor, tutor)
    assert provenance.recipe == recipes["pupil"].model_dump(mode="json")
    assert "already published as pupil@1" in exitramp.train("pupil").output
    assert Store(exitramp.store).versions() == {"pupil": [1]}


def test_means_without_a_teacher_leave_out_what_needs_one(
    exitramp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"plain": (None, {}), "taught": ("plain", {"teacher_weight": 0.5})}
    monkeypatch.setattr("model_store.training.means.MEANS", entries)
    recipes = {"tutor": SMALL, "pupil": SMALL.changed(start="any@1", **TAUGHT)}
    monkeypatch.setattr("model_store.training.recipes.RECIPES", recipes)
    short = ("means", "pupil", "--rows", "128", "--epochs", "1", "--no-compile", "--runs", str(exitramp.runs))
    result = exitramp(*short, "--json")
    assert "without what needs a teacher" in result.stderr
    assert [entry["name"] for entry in json.loads(result.stdout)] == ["plain"]
    assert "train it first" in refused(exitramp(*short, "--only", "taught"))


@pytest.fixture
def evaluation(exitramp: CommandLine, small_store: SmallStore, tmp_path: Path) -> Path:
    """The result of evaluate as a file."""
    result = exitramp("evaluate", "small", "--store", str(small_store.root), "--executor", "torch", "--json")
    path = tmp_path / "small.json"
    path.write_text(result.stdout)
    return path


def test_controls_are_drawn_only_if_they_can_be_compared(
    exitramp: CommandLine, small_store: SmallStore, evaluation: Path, tmp_path: Path
) -> None:
    figure, other, broken = (tmp_path / name for name in ("figure.png", "other.json", "broken.json"))
    other.write_text(json.dumps({**json.loads(evaluation.read_text()), "rows": "others/test"}))
    broken.write_text("{}")
    command = ("evaluate", "small", "--store", str(small_store.root), "--executor", "torch")
    plot = ("--plot", str(figure))
    for options, told in (
        (("--control", str(evaluation)), "needs --plot"),
        ((*plot, "--control", str(other)), "measured on 40 rows of others/test"),
        ((*plot, "--control", str(broken)), "not a result of evaluate --json"),
        ((*plot, *("--control", str(evaluation)) * 4), "room for 3, got 4"),
    ):
        assert told in refused(exitramp(*command, *options))
    assert not figure.exists()
    assert exitramp(*command, *plot, "--control", str(evaluation)).exit_code == 0
    with Image.open(figure) as drawn:
        assert drawn.size == (1800, 1368)


@pytest.mark.parametrize("options", [(), ("--limit", "1G"), ("--limit", "1G", "--budget", "1G")])
def test_outcomes_are_told_row_by_row_under_any_constraint(
    options: tuple[str, ...], exitramp: CommandLine, small_store: SmallStore, tmp_path: Path
) -> None:
    path = tmp_path / "outcomes.json"
    command = ("evaluate", "small", "--store", str(small_store.root), "--executor", "torch")
    assert exitramp(*command, *options, "--outcomes", str(path)).exit_code == 0
    outcomes = json.loads(path.read_text())
    exits = {exit for _, exit, _ in outcomes}
    assert len(outcomes) == 40 and all(0 <= label < 10 for label, _, _ in outcomes)
    assert exits == {4} if options == ("--limit", "1G") else exits <= {1, 2, 4}
    assert len({flops for _, _, flops in outcomes}) == len(exits)


def test_images_of_other_classes_and_budgets_below_the_cheapest_exit_are_refused(
    exitramp: CommandLine, small_store: SmallStore, tmp_path: Path
) -> None:
    command = ("evaluate", "small", "--store", str(small_store.root), "--executor", "torch")
    assert "below the cheapest exit" in refused(exitramp(*command, "--budget", "1"))
    lonely = tmp_path / "lonely"
    (lonely / "test" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(lonely / "test" / "cat" / "0.png")
    other = CliRunner().invoke(app, [*command, "--data", str(lonely)])
    assert "1 classes, but small knows 10" in refused(other)


def test_the_frontier_sets_accuracy_beside_time_for_each_model(
    exitramp: CommandLine, small_store: SmallStore, tmp_path: Path
) -> None:
    figure = tmp_path / "frontier.png"
    command = ("frontier", "small", "small@1", "--store", str(small_store.root), "--executor", "torch")
    quick = ("--batch", "2", "--batch", "4", "--rounds", "2")
    told = exitramp(*command, *quick, "--plot", str(figure))
    assert told.exit_code == 0 and told.stdout.count("exit 4") == 2 and figure.exists()
    result = json.loads(exitramp(*command, *quick, "--part", "check", "--json").stdout)
    assert [row["gain"] for row in result["paired"]] == [0.0] * 4 and result["batches"] == [2, 4]
    assert all(len(point["milliseconds"]) == 2 for point in result["models"][0]["budgets"])
    assert "--batch must be 1 to 40" in refused(exitramp(*command, "--batch", "41"))
