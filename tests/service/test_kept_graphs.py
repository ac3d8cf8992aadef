"""Converted graphs are found again, and never trusted without a look."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SmallStore, random_images

from model_store.nets.staged import Span
from service.engine import kept_graphs
from service.engine.kept_graphs import convert_once
from service.engine.openvino_executor import OpenVinoExecutor
from service.engine.openvino_graph import SpanGraphs, convert


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was converted, one entry each."""
    seen: list[object] = []

    def counted(*given: object) -> SpanGraphs:
        seen.append(given)
        return convert(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_graphs, "convert", counted)
    return seen


def graphs(store: SmallStore, folder: Path, weights: str = "a" * 64) -> SpanGraphs:
    return convert_once(store.artifact.net, store.artifact.manifest.input, weights, folder)


def logits(found: SpanGraphs) -> torch.Tensor:
    executor = OpenVinoExecutor(found, 1, "f32")
    features, _ = executor.run(Span(0, 1), (torch.from_numpy(random_images(3)),))
    _, last = executor.run(Span(2, found.stages - 1), tuple(x.clone() for x in features))
    return last.clone()


def test_a_kept_graph_computes_what_the_converted_one_does(
    small_store: SmallStore, tmp_path: Path, conversions: list[object]
) -> None:
    first, second = graphs(small_store, tmp_path), graphs(small_store, tmp_path)
    assert len(conversions) == 1 and second.stages == first.stages
    torch.testing.assert_close(logits(second), logits(first))


def test_other_weights_are_another_graph(
    small_store: SmallStore, tmp_path: Path, conversions: list[object]
) -> None:
    graphs(small_store, tmp_path, "a" * 64)
    graphs(small_store, tmp_path, "b" * 64)
    assert len(conversions) == 2


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".sha256"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_graph_is_converted_anew_and_mended(
    small_store: SmallStore, tmp_path: Path, conversions: list[object], suffix: str, damage: str
) -> None:
    sound = logits(graphs(small_store, tmp_path))
    (path,) = tmp_path.glob(f"*{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[: len(content) // 2])
    torch.testing.assert_close(logits(graphs(small_store, tmp_path)), sound)
    graphs(small_store, tmp_path)
    assert len(conversions) == 2


def test_a_folder_that_cannot_be_used_costs_nothing_but_time(
    small_store: SmallStore, tmp_path: Path, conversions: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file" / "below", Path("~nobody-of-that-name/cache")):
        assert graphs(small_store, folder).stages == small_store.artifact.net.stages
    assert [record.message for record in caplog.records if record.name == kept_graphs.__name__] == [
        "graph_not_kept"
    ] * 2
    assert len(conversions) == 2
