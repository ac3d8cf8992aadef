"""How processes of one server find each other, and what they do not bring along."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.front.children import Child, Post
from service.front.control import Control, Said, control_pair
from service.front.launching import command, inherited
from service.front.supervisor import PERIODS, CannotStart, Supervisor
from service.settings import Settings


@pytest.mark.parametrize("module", ["service.front.worker", "service.front.supervisor"])
def test_fronts_and_supervisor_need_no_torch(module: str) -> None:
    code = f"import {module}, sys; print(*[name for name in ('torch', 'openvino') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_process_imports_from_where_its_parent_does_and_not_from_the_working_directory(
    tmp_path: Path,
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise SystemExit('a stranger')")
    code = "import service; print(service.VERSION)"
    arguments = [*command("service.front.worker")[:-2], "-c", code]
    assert arguments[1] == "-P"
    done = subprocess.run(arguments, cwd=tmp_path, env=inherited(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


async def test_words_and_descriptors_come_one_by_one_and_then_the_end() -> None:
    ours, theirs = map(Control, control_pair())
    heard: list[tuple[Said, bytes]] = []
    ended = asyncio.Event()

    def hear(said: Said, descriptors: list[int]) -> None:
        text = b""
        for descriptor in descriptors:
            text += os.read(descriptor, 10)
            os.close(descriptor)
        heard.append((said, text))

    theirs.listen(hear, ended.set)
    reading, writing = os.pipe()
    os.write(writing, b"mine")
    ours.say({"first": 1}, (reading,))
    os.close(reading)
    os.close(writing)
    ours.say({"settings": Settings().model_dump_json()})
    ours.close()
    await ended.wait()
    assert heard[0] == ({"first": 1}, b"mine")
    assert Settings.model_validate_json(heard[1][0]["settings"]) == Settings()


async def test_nobody_minds_words_to_who_has_ended() -> None:
    ours, theirs = map(Control, control_pair())
    theirs.close()
    ours.say({"anybody": "there"})
    assert ours.hear() == (None, [])
    ours.close()


class FakeProcess:
    """Is killed, or not."""

    pid = 1

    def __init__(self) -> None:
        self.killed = asyncio.Event()

    def kill(self) -> None:
        self.killed.set()


@pytest.mark.parametrize("answers", [0, 5])
async def test_a_process_that_is_asked_in_vain_is_killed_after_the_timeout(
    tmp_path: Path, answers: int, caplog: pytest.LogCaptureFixture
) -> None:
    timeout_s = 0.15
    ours, theirs = map(Control, control_pair())
    process, left = FakeProcess(), answers
    child = Child(process, ours)  # type: ignore[arg-type]
    child.up = True
    post = Post("worker 1", "service.front.worker")
    supervisor = Supervisor(Settings(launch_timeout_s=timeout_s, http_workers=1), ("127.0.0.1", 0), tmp_path)

    def answer(said: Said, _: list[int]) -> None:
        nonlocal left
        assert said == {"ping": True}
        if left:
            left -= 1
            supervisor._heard(post, child, {"pong": True})

    theirs.listen(answer, lambda: None)
    started_s = time.monotonic()
    await supervisor._watch(post, child)
    assert process.killed.is_set() and left == 0
    assert time.monotonic() - started_s >= timeout_s * (1 + (answers - 1) / PERIODS)
    assert caplog.records[-1].message == "child_hung"
    theirs.close()
    ours.close()
    for front in supervisor._fronts:
        front.stop_listening()


@pytest.mark.parametrize("proven", [True, False])
async def test_a_process_that_cannot_be_started_is_tried_again_once_one_has_worked(
    tmp_path: Path, proven: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = 0

    async def no_room(*_: object) -> Child:
        nonlocal tried
        tried += 1
        if tried == 3:
            supervisor._ending.set()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("service.front.supervisor.start", no_room)
    supervisor = Supervisor(Settings(http_workers=1), ("127.0.0.1", 0), tmp_path)
    (post,) = supervisor._fronts
    post.proven = proven
    if proven:
        await supervisor._keep(post)
        assert tried == 3
        assert [record.message for record in caplog.records] == ["worker_died"] * 2
        assert "temporarily unavailable" in vars(caplog.records[0])["failure"]
    else:
        with pytest.raises(CannotStart, match=r"worker 1 process cannot be started: .*unavailable"):
            await supervisor._keep(post)
    post.stop_listening()


def test_an_empty_post_needs_no_end() -> None:
    Post("engine", "service.front.engine_process").kill()
