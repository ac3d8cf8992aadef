"""Whatever the OpenAPI document allows and forbids is answered as it says: asked by schemathesis."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from conftest import small_manifest, small_net
from figures import Figure
from hypothesis import strategies as st
from live import Server, serving
from PIL import Image as PillowImage
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from model_store.store import Store

SERVED, STORED = "cifar10-fusion", "cifar10-shufflenet"
"""As the document's examples name them, so that these are answered with 200."""

ADMINISTRATOR, CLIENT = "administrator", "client"

FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}

SHIP = Path(__file__).parent.parent / "images" / "ship.png"

DOCUMENTED = ["2xx", "3xx", "4xx", "503", "504"]
"""What may be answered, if it is documented. 500 is documented and may not."""


QUICK = ("examples", "fuzzing")

EVERYTHING = (*QUICK, "coverage")
"""Phases of schemathesis; ``coverage`` tries each boundary of each schema, and other methods."""


@dataclass
class Asked:
    """What schemathesis asked, and what it did not like."""

    operations: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    classified: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.statuses.total()

    def __str__(self) -> str:
        failed = sum(count for status, count in self.statuses.items() if status == 500)
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.cases:,} cases over {len(self.operations)} operations: {failed} times 500, "
            f"{len(self.failures)} undocumented or against the document; {counts}; images classified: "
            f"{self.classified}"
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for seed, name in enumerate((SERVED, STORED)):
        manifest, weights = small_manifest(small_net(seed), name=name)
        Store(root).publish(manifest, weights)
    return root


@pytest.fixture(scope="module")
def pictures() -> None:
    """Has schemathesis send pictures where the document wants them: whole, broken, and none at all."""
    with PillowImage.open(SHIP) as picture:
        pixels = picture.convert("RGB")
    whole = {}
    for suffix, name in FORMATS.items():
        file = io.BytesIO()
        pixels.save(file, name)
        whole[f"image/{suffix}"] = file.getvalue()
    anything = st.sampled_from([*whole.values()])
    broken = st.builds(_mutated, anything, st.integers(0, 4000), st.binary(max_size=8))
    for media_type in (*whole, "application/octet-stream"):
        fitting = st.just(whole[media_type]) if media_type in whole else anything
        schemathesis.openapi.media_type(media_type, fitting | anything | broken | st.binary(max_size=64))


def _mutated(content: bytes, at: int, bits: bytes) -> bytes:
    """``content`` with ``bits`` somewhere, or cut off there."""
    at %= len(content)
    return content[:at] + bits + content[at + len(bits) :] if bits else content[:at]


@contextmanager
def served(store: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    digest = hashlib.sha256(ADMINISTRATOR.encode()).hexdigest()
    known = {"MODEL_STORE": str(store), "MODELS": json.dumps([SERVED]), "EXECUTOR": "torch"}
    with serving({**known, "ADMIN_KEY_SHA256": digest, **settings}) as server:
        yield server


def configured(examples: int, phases: tuple[str, ...], api_key: str | None = None) -> SchemathesisConfig:
    """``phases`` of schemathesis with so many ``examples`` for each operation, and values that often fit."""
    off = {name: {"enabled": False} for name in ("examples", "coverage", "fuzzing", "stateful")}
    # What answers say would be tried, too: to unload the one model that all the rest is about.
    on = {name: {"enabled": True, "extra-data-sources": {"responses": False}} for name in phases}
    often = {
        "path.name": [SERVED, f"{SERVED}@1", "cifar10"],
        "path.version": ["1"],
        "header.X-Model": [SERVED, "cifar10"],
        "header.X-FLOP-Budget": ["25M", "1.5e7", "1G"],
        "header.X-FLOP-Limit": ["40M", "1G", ".1T"],
        "header.X-Deadline-Ms": ["5000", "5k"],
    }
    told = {name: {"dictionary": name, "probability": 0.7} for name in often}
    stored = {"include-path-regex": "/(un)?load$", "parameters": {"path.name": {"dictionary": "stored"}}}
    return SchemathesisConfig.from_dict(
        {
            "headers": {"X-Admin-Key": ADMINISTRATOR} | ({} if api_key is None else {"X-API-Key": api_key}),
            "generation": {"max-examples": examples, "deterministic": True, "no-shrink": True},
            "dictionaries": {
                name: {"values": values} for name, values in (often | {"stored": [STORED]}).items()
            },
            "parameters": told,
            "operations": [stored],
            "phases": off | on,
            "checks": {
                "not_a_server_error": {"expected-statuses": DOCUMENTED},
                # No schema can say which bytes are a picture and which policy fits a network.
                "positive_data_acceptance": {"enabled": False},
            },
        }
    )


def ask(server: Server, config: SchemathesisConfig) -> Asked:
    """Send what schemathesis makes of the document of ``server``."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=config)

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:  # an array of files is sent as files
        form = getattr(body, "body", body)
        if isinstance(form, dict) and isinstance(form.get("image"), bytes):
            form["image"] = [form["image"]]
        return body

    asked = Asked()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _enter(asked, event.recorder)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            asked.failures.append(f"schemathesis itself: {event}")
    return asked


def _enter(asked: Asked, recorder: Any) -> None:
    asked.operations.add(recorder.label)
    for interaction in recorder.interactions.values():
        status = 0 if interaction.response is None else interaction.response.status_code
        asked.statuses[status] += 1
        asked.classified += status == 200 and "x-flops" in interaction.response.headers
    for case, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                request = recorder.interactions[case].request
                sent = f"{request.method} {request.uri} {request.headers}"
                asked.failures.append(f"{check.name}: {check.failure_info.failure.message}\n{sent}"[:2000])


def judge(asked: Asked, least: int) -> None:
    assert not asked.failures, "\n\n".join(asked.failures[:5])
    assert set(asked.statuses) <= {200, 304, *range(400, 500), 503, 504}
    assert asked.cases >= least and len(asked.operations) >= 32
    assert asked.classified >= least / 100, "hardly anything was classified"


@pytest.mark.usefixtures("pictures")
def test_what_the_document_allows_and_forbids_is_answered_as_it_says(store: Path, figure: Figure) -> None:
    with served(store, {}) as server:
        asked = ask(server, configured(3, QUICK))
    figure(14, f"quick: {asked}")
    judge(asked, least=150)


@pytest.mark.soak
@pytest.mark.usefixtures("pictures")
def test_so_are_thousands_of_cases_with_every_corner(store: Path, figure: Figure) -> None:
    with served(store, {}) as server:
        asked = ask(server, configured(6, EVERYTHING))
    figure(14, f"without API keys: {asked}")
    judge(asked, least=1000)


@pytest.mark.soak
@pytest.mark.usefixtures("pictures")
def test_so_they_are_where_keys_are_configured(store: Path, tmp_path: Path, figure: Figure) -> None:
    file = tmp_path / "keys.json"
    digest = hashlib.sha256(CLIENT.encode()).hexdigest()
    file.write_text(json.dumps({"keys": [{"name": "client", "sha256": digest}]}))
    with served(store, {"KEYS_FILE": str(file)}) as server:
        known = ask(server, configured(6, EVERYTHING, CLIENT))
        stranger = ask(server, configured(3, QUICK))
    figure(14, f"with an API key: {known}")
    figure(14, f"without the API key that is wanted: {stranger}")
    judge(known, least=1000)
    assert not stranger.failures, "\n\n".join(stranger.failures[:5])
    assert stranger.statuses[401] > known.statuses[401] / 2 and not stranger.classified
