"""The Dockerfile and the compose file are locked down and fit together; no Docker needed."""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
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
IMAGES = {stage.split()[3]: stage for stage in STAGES[1:] if "\nUSER " in stage}
SCRIPTS = sorted((ROOT / "deploy" / "containers").glob("*.sh"))


def instructions(stage: str, name: str) -> list[str]:
    return [line.split(maxsplit=1)[1].strip() for line in stage.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_write_its_root_or_gain_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]  # and seccomp as it is by default
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"] and service["cpus"] and service["pids_limit"]
    assert "disable" not in service["healthcheck"]
    # Without a command of its own it is that of the image, which is the Dockerfile's.
    assert "build" in service or service["healthcheck"]["test"][0] == "CMD"


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


def test_checkov_has_no_open_finding() -> None:
    run(tool("checkov"), "--skip-download", "--quiet", "--compact", "--file", ROOT / "Dockerfile")


def test_compose_accepts_the_file() -> None:
    run(tool("docker-compose"), "--file", ROOT / "docker-compose.yml", "config", "--quiet")


def test_both_images_run_as_a_numeric_user_that_is_not_root() -> None:
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == set(IMAGES) == {"service", "loadtest"}
    for stage in IMAGES.values():
        user = instructions(stage, "USER")[-1]
        assert all(int(number) >= 10_001 for number in user.split(":"))


def test_the_server_is_process_one_and_gets_the_signals() -> None:
    service = STAGES[-1]
    assert json.loads(instructions(service, "ENTRYPOINT")[-1]) == ["exitramp"]
    assert json.loads(instructions(service, "CMD")[-1]) == ["serve"]
    assert "EXITRAMP_HOST=0.0.0.0" in service


def test_the_image_is_healthy_when_readyz_says_so_and_needs_no_curl() -> None:
    for name, address in (("service", "'/readyz'"), ("loadtest", "'/'")):
        command = json.loads(
            re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", IMAGES[name], flags=re.MULTILINE)[0]
        )
        assert command[:2] == ["python", "-c"]
        assert ast.parse(command[2]) and address in command[2]


@pytest.mark.parametrize("name", IMAGES)
def test_what_runs_installs_nothing_and_takes_over_nothing_of_the_build_but_an_environment(name: str) -> None:
    stage = IMAGES[name]
    commands = " ".join(instructions(stage, "RUN"))
    assert not re.search(r"\b(apt-get|apk|pip|uv|gcc|make)\b", commands)
    assert stage.startswith("FROM ${PYTHON_IMAGE} ")
    (copied,) = [line for line in instructions(stage, "COPY") if "--from=" in line]
    assert re.fullmatch(r"--from=\S+ (/opt/\w+) \1", copied)


def test_a_plain_build_makes_the_service() -> None:
    assert STAGES[-1] == IMAGES["service"]


def test_packages_come_from_a_folder_where_a_build_brings_one_and_from_nowhere_else_on_demand() -> None:
    installing = [line for line in instructions(DOCKERFILE, "RUN") if "pip install" in line]
    assert len(installing) == 4
    for line in installing:
        assert "--mount=type=bind,from=wheels,target=/wheels" in line
        assert "--mount=type=secret,id=certificates," in line
        assert "${NO_INDEX:+--no-index}" in line


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_executable_explain_themselves_and_shellcheck_finds_nothing(script: Path) -> None:
    assert os.access(script, os.X_OK)
    run("bash", "-n", script)
    run(script, "--help")
    run(tool("shellcheck"), script)


def test_scripts_build_and_run_what_compose_does() -> None:
    text = "".join(script.read_text() for script in SCRIPTS)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version={version}\n" in text and f"localhost/exitramp:{version}" in text
    for name, service in SERVICES.items():
        assert "build" not in service or service["image"].endswith(f":{version}"), name
    runs = (ROOT / "deploy" / "containers" / "run.sh").read_text()
    service = SERVICES["exitramp"]
    assert f"--memory {service['mem_limit']} " in runs and f"--pids-limit {service['pids_limit']}\n" in runs
    assert f"--cpus {service['cpus']:g} " in runs
    assert f"--env EXITRAMP_THREADS={service['environment']['EXITRAMP_THREADS']}\n" in runs


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
