"""A full disk: what can do without it does, what cannot says so, and nothing half-written is left."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import SmallStore, small_manifest, small_net, small_policy
from disk import Disk, mounted
from live import START_S, Server, serving, start
from open_inference import ADMIN, publish, settings_of
from PIL import Image as PillowImage
from processes import workers
from steady import asking

from model_store.quantized import GRAPH, Int8Exit, Int8Graph, Int8Record, file_sha256, read_int8, write_int8
from model_store.store import NotWritten, Store, with_policy
from service.engine.kept_graphs import convert_once

PATIENCE_S = 60

ANSWERED = 'exitramp_requests_total{code="200",route="/classify"}'

ALMOST_FULL_BYTES = 16 * 1024
"""Left to temporary files: with none Python looks for another folder."""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".ballast"}


def test_what_does_not_fit_into_the_store_leaves_nothing_there(tmp_path: Path) -> None:
    manifest, weights = small_manifest(small_net(), version=2)
    with mounted(tmp_path / "store", 4 * 2**20) as disk:
        store = Store(disk.folder)
        publish(disk.folder)
        before = files(disk.folder)
        for left_bytes in (0, len(weights) // 2, len(weights) + 4096):
            disk.fill(left_bytes)
            with pytest.raises(NotWritten, match=r"small/2: No space left on device; nothing was published"):
                store.publish(manifest, weights)
            disk.empty()
            assert files(disk.folder) == before
        store.publish(manifest, weights)
        assert store.load("small").manifest.version == 2


def test_what_cannot_be_replaced_on_a_full_disk_stays(tmp_path: Path) -> None:
    with mounted(tmp_path / "store", 2**20) as disk:
        folder, store = publish(disk.folder), Store(disk.folder)
        old = store.read_manifest("small")
        write_int8(folder, int8_of(old.weights_sha256, b"<old/>"))
        before = files(disk.folder)
        disk.fill()
        with pytest.raises(NotWritten, match="No space left on device"):
            store.replace_manifest(with_policy(old, small_policy(small_net(), exits=(1, 3))))
        with pytest.raises(NotWritten, match="No space left on device"):
            write_int8(folder, int8_of(old.weights_sha256, b"<new/>"))
        assert files(disk.folder) == before
        assert store.load("small").manifest == old
        kept = read_int8(folder, old.weights_sha256)
        assert kept is not None and kept.graph == b"<old/>" == (folder / GRAPH).read_bytes()


def int8_of(weights_sha256: str, graph: bytes) -> Int8Graph:
    exits = (Int8Exit(exit=1, float32_accuracy=1, int8_accuracy=1, standard_error=0, agreement=1),)
    record = Int8Record(
        weights_sha256=weights_sha256,
        graph_sha256=file_sha256(graph),
        constants_sha256=file_sha256(b"1"),
        preset="mixed",
        calibration="none",
        judged="none",
        count=1,
        exits=exits,
        hardware="none",
        created="2026-01-01T00:00:00Z",
        libraries={},
    )
    return Int8Graph(graph, b"1", record)


def test_a_graph_that_does_not_fit_into_the_cache_is_made_anew_until_it_does(
    small_store: SmallStore, tmp_path: Path
) -> None:
    artifact = small_store.artifact
    given = (artifact.net, artifact.manifest.input, artifact.manifest.weights_sha256)
    with mounted(tmp_path / "cache", 16 * 2**20) as disk:
        convert_once(*given, disk.folder)
        kept = [path for path in disk.folder.iterdir() if path.is_file()]
        sizes = sorted(path.stat().st_size for path in kept)
        for path in kept:
            path.unlink()
        for left_bytes in (0, sizes[-1] // 2, sizes[-1] + 4096, sum(sizes) - 4096):
            disk.fill(left_bytes)
            assert convert_once(*given, disk.folder).stages == artifact.net.stages
            disk.empty()
            assert files(disk.folder) == set(), "nothing half-written stays"
        convert_once(*given, disk.folder)
        assert {path.suffix for path in disk.folder.iterdir()} == {".xml", ".bin", ".sha256"}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A small disk for the temporary files of servers."""
    with mounted(tmp_path / "temporary", 8 * 2**20) as disk:
        monkeypatch.setenv("TMPDIR", str(disk.folder))
        yield disk


def test_a_server_for_which_there_is_no_room_ends_with_one_clear_line(
    small_store: SmallStore, temporary: Disk
) -> None:
    temporary.fill(ALMOST_FULL_BYTES)
    process = start({**settings_of(small_store.root, "small"), "HTTP_WORKERS": "2"})
    try:
        _, said = process.communicate(timeout=START_S)
    finally:
        process.kill()
    told = [line for line in said.splitlines() if not line.startswith("{")]
    assert process.returncode == 1 and len(told) == 1, said
    assert told[0].startswith(f"exitramp: {temporary.folder}") and told[0].endswith("No space left on device")
    temporary.empty()
    assert files(temporary.folder) == set()


def large_image() -> bytes:
    """4 MB: starlette would keep it in a file."""
    file = io.BytesIO()
    PillowImage.frombytes("RGB", (1200, 1200), os.urandom(3 * 1200**2)).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_disk_that_fills_up_under_a_server_disturbs_nobody(
    processes: int, tmp_path: Path, temporary: Disk, png: Callable[[int], bytes]
) -> None:
    publish(tmp_path / "store")
    settings = settings_of(tmp_path / "store", "small", HTTP_WORKERS=str(processes))
    with serving(settings) as server, asking(server.url, png(0), rate=20) as answers:
        answers.await_more(5)
        temporary.fill(ALMOST_FULL_BYTES)
        files = [("image", ("i", large_image(), "image/png")), ("image", ("j", png(1), "image/png"))]
        answer = server.client.post("/classify", files=files)
        assert answer.status_code == 200, answer.text
        assert all("label" in prediction for prediction in answer.json()["predictions"])
        publish(tmp_path / "store", 2)
        reloaded = server.client.post("/v2/repository/models/small/load", headers=ADMIN)
        assert reloaded.status_code == 200, reloaded.text
        answers.await_more(20)
        counted = server.metrics()[ANSWERED]
        assert not answers.failures and counted >= 25
        if processes == 2:
            _front_dies(server, temporary)
    assert server.process.returncode is not None


def _front_dies(server: Server, temporary: Disk) -> None:
    """The other front serves on; the new one has room at once: it counts on where the one before it did."""
    pid = server.process.pid
    before = server.metrics()[ANSWERED]
    os.kill(workers(pid)[0], signal.SIGKILL)
    while (line := server.event())["event"] != "worker_died":
        pass
    assert line["code"] == -signal.SIGKILL and "failure" not in line
    _until(lambda: len(workers(pid)) == 2)
    for _ in range(50):
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            assert client.get("/readyz").status_code == 200
    assert server.metrics()[ANSWERED] >= before, "what the dead one has counted stays"
    assert len(list(temporary.folder.glob("*/*.db"))) == 2 * len(workers(pid)) == 4


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
