"""The Dockerfile and the compose file are locked down and fit together; no Docker needed."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import run, tool

ROOT = Path(__file__).parents[2]

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)


def instructions(stage: str, name: str) -> list[str]:
    return [line.split(maxsplit=1)[1].strip() for line in stage.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_write_its_root_or_gain_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"] and service["cpus"] and service["pids_limit"]
    assert "disable" not in service["healthcheck"]
    # Without a command of its own it is the image's, which for our service is the Dockerfile's.
    assert name == "exitramp" or service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_published_on_the_loopback_address_only(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


def test_everything_that_compose_mounts_exists_and_is_read_only() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    bound = [volume for volume in volumes if volume.startswith(".")]
    assert bound
    for volume in bound:
        source, _, mode = volume.split(":")
        assert (ROOT / source).exists() and mode == "ro"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(tool("hadolint"), "--failure-threshold", "style", ROOT / "Dockerfile")


def test_both_images_run_as_a_numeric_user_that_is_not_root() -> None:
    for stage in STAGES[2:]:
        user = instructions(stage, "USER")[-1]
        assert all(int(number) >= 10_001 for number in user.split(":"))


def test_the_server_is_process_one_and_gets_the_signals() -> None:
    service = STAGES[-1]
    assert json.loads(instructions(service, "ENTRYPOINT")[-1]) == ["exitramp"]
    assert json.loads(instructions(service, "CMD")[-1]) == ["serve"]
    assert "EXITRAMP_HOST=0.0.0.0" in service


def test_the_image_is_healthy_when_readyz_says_so_and_needs_no_curl() -> None:
    command = json.loads(re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", STAGES[-1], flags=re.MULTILINE)[0])
    assert command[:2] == ["python", "-c"]
    assert ast.parse(command[2]) and "'/readyz'" in command[2]


def test_the_final_stage_installs_nothing() -> None:
    commands = " ".join(instructions(STAGES[-1], "RUN"))
    assert not re.search(r"\b(apt-get|apk|pip|uv|gcc|make)\b", commands)


def test_pytorch_comes_for_the_cpu_unless_an_argument_says_otherwise() -> None:
    assert "ARG TORCH_BACKEND=cpu" in DOCKERFILE
    assert SERVICES["exitramp"]["build"]["args"]["TORCH_BACKEND"] == "${TORCH_BACKEND-cpu}"


def test_what_the_dockerfile_copies_exists_and_little_else_enters_the_build() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = [line.split()[:-1] for line in instructions(DOCKERFILE, "COPY") if "--from=" not in line]
    sources = {source.removeprefix("./") for line in copied for source in line}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
