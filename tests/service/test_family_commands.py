"""Commands that import, prune and compare: what they publish and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from conftest import CLASSES, SPEC, SmallStore, random_images
from PIL import Image
from test_commands import CommandLine, data, exitramp, refused  # noqa: F401  # fixtures
from typer.testing import CliRunner

from model_store import nets
from model_store.store import Store
from model_store.training.imports import Imported, describe, uncalibrated_policy
from model_store.training.pruning import parameters, sparsity
from service.cli import app

THIN = {"num_classes": 10, "small_input": True, "squeeze_excitation": True, "width": 0.25}


def run(*arguments: str) -> Result:
    result: Result = CliRunner().invoke(app, list(arguments))
    return result


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a narrow SE-ResNet-18 of the CIFAR-10 classes."""
    torch.manual_seed(0)
    net = nets.build("resnet", THIN).eval()
    imported = Imported("resnet", dict(THIN), net, SPEC, "cifar10", CLASSES, (0.5,), {"import": "test"})
    policy = uncalibrated_policy(imported.stages, (0.5,))
    Store(tmp_path / "store").publish(*describe(imported, "thin", 1, policy, "test", {}))
    return tmp_path / "store"


def test_torchvisions_classifier_becomes_an_artifact(tmp_path: Path) -> None:
    result = run("import", "torchvision:mobilenet_v3_small", "--weights", "none", "--store", str(tmp_path))
    assert result.exit_code == 0, result.exception
    assert "weights are random" in result.output
    artifact = Store(tmp_path).load("mobilenet_v3_small")
    manifest = artifact.manifest
    assert manifest.task == "imagenet" and manifest.classes[:2] == ("tench", "goldfish")
    spec = manifest.input
    assert (spec.height, spec.resize, spec.interpolation) == (224, 256, "bilinear")
    assert len(manifest.exits) == 1 and artifact.net(torch.zeros(1, 3, 224, 224))[0].shape == (1, 1000)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("torchvision:nonsense", "no classifier 'nonsense'"),
        ("torchvision:", "cannot be imported"),
        ("onnx:model", "'onnx' cannot be imported"),
        ("torchvision:mobilenet_v3_smal", "it has mobilenet_v3_small"),
        ("cascade:thin", "at least two"),
        ("cascade:thin,thin", "no artifact twice"),
        ("cascade:thin,missing", "no artifact missing"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(store: Path, source: str, why: str) -> None:
    said = refused(run("import", source, "--store", str(store)))
    assert why in said


def test_weights_that_cannot_be_had_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = refused(run("import", "torchvision:squeezenet1_1", "--store", str(tmp_path)))
    assert "cannot be downloaded: no connection" in said and "--weights none" in said
    assert "has no weights 'V9'; it has IMAGENET1K_V1, DEFAULT, none" in refused(
        run("import", "torchvision:squeezenet1_1", "--weights", "V9")
    )


def test_a_cascade_is_calibrated_with_the_users_images(
    store: Path, small_store: SmallStore, tmp_path: Path
) -> None:
    (store / "small").symlink_to(small_store.root / "small")
    for i, image in enumerate(random_images(60)):
        path = tmp_path / "mine" / CLASSES[i % 10].upper() / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).resize((40 + i, 50)).save(path)
    options = ("--store", str(store), "--data", str(tmp_path / "mine"), "--name", "both")
    result = run("import", "cascade:thin,small", *options)
    assert result.exit_code == 0, result.exception
    both, thin, small = (Store(store).load(name) for name in ("both", "thin", "small"))
    assert len(both.manifest.exits) == 1 + len(small.manifest.exits)
    assert both.manifest.provenance.rows["calibration"] == "mine[0::2]"
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        said = both.net(image)
        mean, std = (torch.tensor(v)[:, None, None] for v in (SPEC.mean, SPEC.std))
        expected = [*thin.net((image - mean) / std), *small.net((image - mean) / std)]
    for ours, theirs in zip(said, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    (tmp_path / "mine" / "unicorn").mkdir()
    assert "not one of the network's 10 classes" in refused(run("import", "cascade:thin,small", *options))


def test_pruned_channels_are_gone_and_the_artifact_loads(exitramp: CommandLine, store: Path) -> None:  # noqa: F811
    places = ("--store", str(store), "--runs", str(exitramp.runs), "--no-compile", "--epochs", "1")
    result = exitramp("prune", "thin", "--share", "0.3", *places)
    assert result.exit_code == 0, result.exception
    whole, pruned = Store(store).load("thin"), Store(store).load("thin-pruned")
    assert parameters(pruned.net) <= 0.7 * parameters(whole.net)
    assert sum(e.block_flops for e in pruned.manifest.exits) < 0.8 * whole.manifest.exits[0].block_flops
    assert pruned.manifest.provenance.start_sha256 is not None
    assert "already published" in exitramp("prune", "thin", "--share", "0.3", *places).output


def test_pruned_weights_stay_zero_through_fine_tuning(exitramp: CommandLine, store: Path) -> None:  # noqa: F811
    places = ("--store", str(store), "--runs", str(exitramp.runs), "--no-compile", "--epochs", "1")
    result = exitramp("prune", "thin", "--unstructured", "--share", "0.4", "--name", "sparse", *places)
    assert result.exit_code == 0, result.exception
    sparse = Store(store).load("sparse")
    assert sparsity(sparse.net) == pytest.approx(0.4, abs=0.01)
    assert sparse.manifest.exits[0].block_flops == Store(store).read_manifest("thin").exits[0].block_flops


def test_a_share_of_zero_fine_tunes_the_whole_network_as_the_control(
    exitramp: CommandLine,  # noqa: F811
    store: Path,
) -> None:
    options = ("prune", "thin", "--share", "0", "--store", str(store), "--no-compile", "--epochs", "1")
    result = exitramp(*options, "--runs", str(exitramp.runs))
    assert result.exit_code == 0, result.exception
    whole, tuned = Store(store).load("thin"), Store(store).load("thin-tuned")
    assert tuned.manifest.arguments == whole.manifest.arguments
    assert tuned.manifest.weights_sha256 != whole.manifest.weights_sha256
    said = refused(exitramp(*options, "--teacher", "nobody", "--runs", str(exitramp.runs / "other")))
    assert "unknown recipe 'nobody'" in said


def test_only_residual_networks_lose_channels(exitramp: CommandLine, small_store: SmallStore) -> None:  # noqa: F811
    said = refused(exitramp("prune", "small", "--store", str(small_store.root)))
    assert "network resnet with basic blocks only" in said


def test_networks_are_compared_at_one_limit_and_finished_runs_are_kept(
    exitramp: CommandLine,  # noqa: F811
    tmp_path: Path,
) -> None:
    networks = ("--network", "mobilenet_v3_small-cifar", "--network", "mnasnet0_5-cifar")
    places = ("--flop-limit", "4e10", "--batch-size", "32", "--runs", str(exitramp.runs))
    command = ("compare", *networks, *places, "--plot", str(tmp_path / "compared.png"), "--json")
    result = exitramp(*command)
    assert result.exit_code == 0, result.exception
    runs = json.loads(result.stdout)
    assert [run["network"] for run in runs] == list(networks[1::2])
    for compared in runs:
        checks = compared["checks"]
        assert 0.9 * 4e10 < checks[-1]["flops"] <= 4e10
        assert [check["flops"] for check in checks] == sorted(check["flops"] for check in checks)
    assert (tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(exitramp(*command).stdout) == runs  # from the files: seconds too
    assert "not in the zoo: nonsense" in refused(exitramp("compare", "--network", "nonsense"))
    assert "one step costs" in refused(exitramp("compare", *networks[:2], "--flop-limit", "1k"))
