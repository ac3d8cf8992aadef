"""Manifests: the valid ones survive their file, all others are a broken artifact and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CLASSES, small_manifest, small_net
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model_store.manifest import ExitSpec, Manifest
from model_store.policy import Policy, PolicyEntry, PolicySegment, make_plan
from model_store.store import ArtifactBroken, Store

SMALL, WEIGHTS = small_manifest(small_net())
UNIT = st.floats(0, 1)
FLOPS = st.floats(1, 1e13)


@st.composite
def segments(draw: st.DrawFn, deepest: int) -> PolicySegment:
    """A valid segment of up to ``deepest`` exits."""
    exits = tuple(sorted(draw(st.sets(st.integers(1, deepest), min_size=1))))
    thresholds = st.tuples(*[st.floats(-10, 10)] * (len(exits) - 1))
    shares = st.tuples(*[UNIT] * len(exits))
    means = sorted(draw(st.lists(FLOPS, min_size=1, max_size=4)))
    return PolicySegment(
        exits=exits,
        entries=tuple(
            PolicyEntry(
                mean_flops=mean, accuracy=draw(UNIT), thresholds=draw(thresholds), shares=draw(shares)
            )
            for mean in means
        ),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any valid manifest: texts of any script, FLOPs and policies of any size."""
    specs = st.builds(
        ExitSpec,
        block_flops=st.integers(1, 10**15),
        head_flops=st.integers(0, 10**15),
        accuracy=UNIT,
        test_accuracy=st.none() | UNIT,
    )
    exits = draw(st.lists(specs, min_size=1, max_size=5))
    parts = sorted(
        draw(st.lists(segments(len(exits)), min_size=1, max_size=3)), key=lambda part: part.costs[0]
    )
    cheapest = min(
        sum(spec.block_flops for spec in exits[: k + 1]) + exits[k].head_flops for k in range(len(exits))
    )
    temperatures = st.none() | st.tuples(*[st.floats(0.1, 10)] * len(exits))
    policy = Policy(
        confidence=draw(st.sampled_from(["probability", "margin", "normalised"])),
        default_flops=draw(st.floats(cheapest, 1e17)),
        segments=tuple(parts),
        temperatures=draw(temperatures),
    )
    texts = st.text(max_size=20)
    changed = {
        "classes": draw(st.lists(texts, min_size=1, max_size=5)),
        "arguments": draw(
            st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3)
        ),
        "version": draw(st.integers(1, 10**9)),
        "name": draw(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True)),
        "exits": exits,
        "policy": policy,
    }
    return Manifest.model_validate({**SMALL.model_dump(), **changed})


@given(manifests())
@settings(max_examples=60)
def test_any_valid_manifest_survives_its_file(manifest: Manifest) -> None:
    read = Manifest.model_validate_json(manifest.model_dump_json(indent=1))
    assert read == manifest and read.policy.id == manifest.policy.id
    plan = make_plan(read.policy, read.stages, None, None)  # requests without a budget can be served
    assert plan.costs == tuple(sorted(plan.costs))


Place = tuple[str | int, ...]


def places(document: Any, here: Place = ()) -> list[Place]:
    """Every field of a JSON document, the nested ones included."""
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))[:2]
        return [place for key in keys for place in [(*here, key), *places(document[key], (*here, key))]]
    return []


DOCUMENT = json.loads(SMALL.model_dump_json())
PLACES = places(DOCUMENT)
DAMAGE: list[Any] = [
    *(None, True, -1, 0, 1, 3, 0.5, 10**12, 1e308, -1e308, "", "x", "../../etc", "\u0000", "10"),
    *([], [1], [[]], {}, {"x": 1}, "removed"),
]


def damaged(place: Place, value: Any) -> dict[str, Any]:
    """The small model's manifest with one field replaced, or taken away."""
    document: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    parent: Any = document
    for key in place[:-1]:
        parent = parent[key]
    if place[-2:-1] == ("layers_per_block",) and value == 10**12:
        value = -value  # building so many layers takes for ever, and no file of ours would ask for it
    if value == "removed":
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return document


@example(place=("policy", "default_flops"), value=1)
@example(place=("classes", 0), value="removed")
@example(place=("arguments", "channels"), value=10**12)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(DAMAGE))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_damaged_field_is_a_broken_artifact_or_a_model_that_serves(
    tmp_path: Path, place: Place, value: Any
) -> None:
    """Never another exception; and nothing that loads fails later, at somebody's request."""
    folder = tmp_path / "small" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "manifest.json").write_text(json.dumps(damaged(place, value)))
    try:
        artifact = Store(tmp_path).load("small")
    except ArtifactBroken as error:
        assert str(error).isprintable()
        return
    serves(artifact.manifest)


def serves(manifest: Manifest) -> None:
    plan = make_plan(manifest.policy, manifest.stages, None, None)
    assert plan.exits[-1] < len(manifest.exits)
    assert len(manifest.classes) == len(CLASSES), "each class has a name"
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@given(text=st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_no_manifest(text: str) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(text)
