"""int8 graphs: made, verified, served; and what happens where there is none, or a damaged one."""

from __future__ import annotations

import json
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, random_images, small_manifest, small_net
from PIL import Image
from typer.testing import CliRunner

from model_store.nets.staged import Span
from model_store.quantized import CONSTANTS, GRAPH, RECORD, write_int8
from model_store.store import Artifact, ArtifactBroken, Store
from model_store.training.data import Rows
from service.cli import app
from service.loading import load_model, make_executor
from service.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("nncf") is None, reason="the extra quantization is not installed")

FILES = {GRAPH, CONSTANTS, RECORD}


def rows(count: int, seed: int) -> Rows:
    images = torch.from_numpy(random_images(count, seed))
    return Rows(images, torch.arange(count) % 10, CLASSES, f"random/{seed}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small model with an int8 graph."""
    from service.engine.quantization import make_int8

    store = Store(tmp_path_factory.mktemp("int8"))
    store.publish(*small_manifest(small_net()))
    artifact = store.load("small")
    write_int8(artifact.folder, make_int8(artifact, rows(20, 1), rows(60, 2)))
    return artifact


@pytest.fixture
def copied(made: Artifact, tmp_path: Path) -> Artifact:
    """The same in a store of its own, to be damaged."""
    store = Store(tmp_path / "store")
    store.publish(made.manifest, (made.folder / "model.safetensors").read_bytes())
    for name in FILES:
        (store.root / "small" / "1" / name).write_bytes((made.folder / name).read_bytes())
    return store.load("small")


def settings(artifact: Artifact, precision: str = "int8") -> Settings:
    return Settings.model_validate(
        {
            "model_store": artifact.folder.parent.parent,
            "models": ("small",),
            "executor": "openvino",
            "precision": precision,
            "max_batch": 4,
            "cache_dir": artifact.folder.parent.parent / "cache",
        }
    )


def test_int8_answers_as_float32_does_but_for_one_in_ten_at_most(made: Artifact, tmp_path: Path) -> None:
    from service.engine.openvino_executor import OpenVinoExecutor

    images = torch.from_numpy(random_images(200, seed=3))
    labels = {}
    for precision in ("f32", "int8"):
        executor = make_executor(made, "openvino", 200, 1, precision, tmp_path)
        assert isinstance(executor, OpenVinoExecutor) and executor.device == f"CPU {precision}"
        features, first = executor.run(Span(0, 0), (images,))
        _, last = executor.run(Span(1, 3), tuple(x.clone() for x in features))
        labels[precision] = torch.stack([first.clone(), last.clone()]).argmax(2)
    agreement = (labels["f32"] == labels["int8"]).float().mean(1)
    assert agreement.min() >= 0.9


def test_results_keep_their_names_so_that_every_span_can_be_cut_out(made: Artifact) -> None:
    from service.loading import int8_graphs

    graphs = int8_graphs(made)
    assert graphs is not None and graphs.int8 and graphs.stages == 4
    for first in range(4):
        for last in range(first, 4):
            results = len(graphs.cut(Span(first, last)).outputs)
            assert results == 1 if last == 3 else results > 1


def test_a_model_with_an_int8_graph_is_served_in_int8_only_if_it_is_wanted(made: Artifact) -> None:
    assert load_model(settings(made), "small").executor.device == "CPU int8"
    assert load_model(settings(made, "f32"), "small").executor.device == "CPU f32"


def test_a_model_without_one_runs_as_ever_and_the_log_says_so(
    copied: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    (copied.folder / RECORD).unlink()
    with caplog.at_level(logging.INFO):
        device = load_model(settings(copied), "small").executor.device
    assert device == load_model(settings(copied, "auto"), "small").executor.device != "CPU int8"
    told = [record for record in caplog.records if record.message == "int8_missing"]
    assert [vars(record)["model"] for record in told] == ["small@1"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_file_is_named_and_the_model_is_not_served(copied: Artifact, name: str) -> None:
    path = copied.folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-3] + b"???")
    with pytest.raises(ArtifactBroken, match=name):
        load_model(settings(copied), "small")
    load_model(settings(copied, "f32"), "small")


def test_a_missing_file_is_named(copied: Artifact) -> None:
    (copied.folder / CONSTANTS).unlink()
    with pytest.raises(ArtifactBroken, match=f"{CONSTANTS}: No such file"):
        load_model(settings(copied), "small")


def test_an_int8_graph_of_other_weights_is_refused(copied: Artifact) -> None:
    path = copied.folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "0" * 64}))
    with pytest.raises(ArtifactBroken, match="other weights"):
        load_model(settings(copied), "small")


def test_a_new_version_begins_without_one(copied: Artifact) -> None:
    store = Store(copied.folder.parent.parent)
    folder = store.publish(*small_manifest(small_net(), version=2))
    assert not FILES & {path.name for path in folder.iterdir()}


def test_the_command_makes_one_and_tells_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_store.training.data.HELD_OUT_ROWS", 60)
    store = Store(tmp_path / "store")
    folder = store.publish(*small_manifest(small_net()))
    for i, image in enumerate(random_images(80)):
        path = tmp_path / "images" / "train" / CLASSES[i % 10] / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    command = ["quantize", "small", "--data", str(tmp_path / "images"), "--store", str(store.root)]
    refused = CliRunner().invoke(app, [*command, "--rows", "31"])
    assert "--rows 31: there are 30 rows" in str(refused.exception)
    done = CliRunner().invoke(app, [*command, "--rows", "20", "--json"])
    assert done.exit_code == 0, done.exception
    told = json.loads(done.stdout)
    assert told == json.loads((folder / RECORD).read_text())
    assert [row["exit"] for row in told["exits"]] == [1, 2, 3, 4] and told["count"] == 30
    assert told["calibration"].endswith("[20:50][0:20]") and told["judged"].endswith("[50:80]")
    monkeypatch.setenv("COLUMNS", "160")
    shown = CliRunner().invoke(app, ["models", "--store", str(store.root)])
    assert "int8, points" in shown.stdout


def test_without_its_extra_the_command_says_what_to_install(
    made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    for module in ("service.engine.quantization", "service.engine.nncf_import"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    store = str(made.folder.parent.parent)
    done = CliRunner().invoke(app, ["quantize", "small", "--data", "x", "--store", store])
    assert "pip install 'exitramp[quantization]'" in str(done.exception)


def test_loggers_stay_of_the_kind_they_were() -> None:
    import service.engine.nncf_import  # noqa: F401

    assert logging.getLoggerClass() is logging.Logger
