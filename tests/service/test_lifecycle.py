"""Models and policies come and go: what serves meanwhile, and what a failure leaves as it was."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CLASSES, random_images, small_manifest, small_net, small_policy
from engines import classify, running
from lifecycles import begun, publish, settings_of

from model_store.policy import Policy
from model_store.store import Store, StoreError
from service.engine.shadow import Shadow
from service.errors import InvalidRequest, UnknownModel
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.settings import Settings


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    publish(store, 1)
    return store


@pytest.fixture
def settings(store: Store) -> Iterator[Settings]:
    yield settings_of(store)


def cheaper(policy: Policy) -> Policy:
    return Policy.model_validate({**policy.model_dump(), "default_flops": policy.default_flops * 0.9})


async def test_a_name_follows_the_latest_version_and_pinned_ones_stay(
    settings: Settings, store: Store
) -> None:
    lifecycle = await begun(settings)
    first = lifecycle.registry
    publish(store, 2, seed=1)
    await lifecycle.load("small@1")
    await lifecycle.load("small")
    registry = lifecycle.registry
    assert [model.key for model in registry.find("small")] == ["small@2"]
    assert [model.key for model in registry.find(None)] == ["small@2"]
    assert [model.key for model in registry.find("small@1")] == ["small@1"]
    assert [model.key for model in registry.find("cifar10")] == ["small@2"], "old versions are no rivals"
    assert [model.key for model in first.find("small")] == ["small@1"], "a registry never changes"


async def test_a_load_that_fails_leaves_what_serves(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    serving = lifecycle.registry
    publish(store, 2)
    (store.root / "small" / "2" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="SHA-256"):
        await lifecycle.load("small")
    assert lifecycle.registry is serving
    listed = {(entry.version, entry.loaded): entry.reason for entry in lifecycle.index()}
    assert listed[(1, True)] == "" and "SHA-256" in listed[(2, False)]


async def test_classes_that_do_not_fit_the_task_are_refused(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    manifest, weights = small_manifest(small_net(), name="other", classes=CLASSES[::-1])
    store.publish(manifest, weights)
    with pytest.raises(StoreError, match="different classes"):
        await lifecycle.load("other")
    assert list(lifecycle.registry.models) == ["small@1"]


async def test_unloaded_models_are_gone_and_can_come_back(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    publish(store, 2)
    await lifecycle.load("small@2")
    await lifecycle.unload("small@2")
    assert [model.key for model in lifecycle.registry.find("small")] == ["small@1"]
    await lifecycle.unload("small")
    with pytest.raises(UnknownModel, match="loaded: none"):
        lifecycle.registry.find(None)
    with pytest.raises(UnknownModel):
        await lifecycle.unload("small")
    await lifecycle.load("small")
    assert [model.key for model in lifecycle.registry.find(None)] == ["small@2"]


async def test_policies_are_replaced_and_rolled_back_without_touching_the_weights(settings: Settings) -> None:
    lifecycle = await begun(settings)
    model = lifecycle.slot("small").model
    own, other = model.policy, cheaper(model.policy)
    slot = await lifecycle.set_policy("small", other)
    served = lifecycle.registry.find("small")[0]
    assert served.policy.id == other.id != own.id and served.executor is model.executor
    assert slot.revision == 2 and model.policy.id == own.id
    await lifecycle.roll_back("small")
    assert lifecycle.registry.find("small")[0].policy.id == own.id
    await lifecycle.roll_back("small@1", 2)
    assert lifecycle.registry.find("small")[0].policy.id == other.id
    with pytest.raises(InvalidRequest, match="revision 3 is not one of 1 to 2"):
        await lifecycle.roll_back("small", 3)


async def test_a_policy_for_another_network_is_refused(settings: Settings) -> None:
    lifecycle = await begun(settings)
    deeper = small_policy(small_net()).model_dump()
    deeper["segments"][0]["exits"] = (1, 2, 7)
    with pytest.raises(InvalidRequest, match=r"the policy is not for small@1: .*the policy consults exit 7"):
        await lifecycle.set_policy("small", Policy.model_validate(deeper))
    with pytest.raises(UnknownModel, match="policies belong to models"):
        await lifecycle.set_policy("cifar10", small_policy(small_net()))


async def test_the_metrics_tell_what_is_served_now(settings: Settings, store: Store) -> None:
    metrics = Metrics()
    lifecycle = Lifecycle(settings, metrics)
    await lifecycle.start()
    policy = cheaper(lifecycle.slot("small").model.policy)
    await lifecycle.set_policy("small", policy)
    samples = next(iter(metrics.model_info.collect())).samples
    assert [sample.labels["policy"] for sample in samples] == [policy.id]


def test_an_administrators_key_is_kept_as_its_digest() -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    assert Settings(admin_key_sha256=digest).admin_key_sha256 == digest
    with pytest.raises(ValueError, match="admin_key_sha256"):
        Settings(admin_key_sha256="secret")


async def test_a_version_under_two_names_is_one_model(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    await lifecycle.load("small@1")
    policy = cheaper(lifecycle.slot("small").model.policy)
    await lifecycle.set_policy("small", policy)
    assert {model.policy.id for model in lifecycle.registry.models.values()} == {policy.id}
    await lifecycle.unload("small@1")
    assert not lifecycle.registry.models


async def test_a_mended_artifact_has_no_reason_any_more(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    publish(store, 2)
    weights = store.root / "small" / "2" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"?")
    with pytest.raises(StoreError):
        await lifecycle.load("small@2")
    assert [bool(listed.reason) for listed in lifecycle.index()] == [False, True]
    weights.write_bytes(good)
    await lifecycle.load("small")
    assert [(listed.loaded, listed.reason) for listed in lifecycle.index()] == [(False, ""), (True, "")]


async def test_a_policy_that_no_budget_can_meet_is_refused(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    in_force = lifecycle.slot("small").model.policy
    worthless = Policy.model_validate({**in_force.model_dump(), "default_flops": 1.0})
    with pytest.raises(InvalidRequest, match="cheapest exit"):
        await lifecycle.set_policy("small", worthless)
    with pytest.raises(InvalidRequest, match="cheapest exit"):
        await lifecycle.set_shadow("small", worthless)
    assert lifecycle.slot("small").model.policy is in_force


async def test_a_debt_outlives_a_reload(settings: Settings, store: Store) -> None:
    lifecycle = await begun(settings)
    model = lifecycle.slot("small").model
    plan = model.plan(model.stages[0].block * 1.5, None, True)
    account = model.ledger(plan)
    assert account is not None
    account.balance = -3.0
    after = await lifecycle.load("small")
    assert after is not model and after.ledger(plan) is account
    assert Shadow(after, cheaper(after.policy), 1.0).model.ledger(plan) is not account


@pytest.mark.parametrize("wanted", ["small@", "small@x", "small@1@1"])
async def test_what_is_no_version_is_none(settings: Settings, wanted: str) -> None:
    lifecycle = await begun(settings)
    with pytest.raises(StoreError, match="name@version"):
        await lifecycle.load(wanted)


async def test_what_stays_is_not_looked_through_again(settings: Settings) -> None:
    assert gc.get_freeze_count() == 0
    await begun(settings)
    assert gc.get_freeze_count() > 50_000, "the collector would stop everything for 100 ms at a time"


@pytest.mark.parametrize("how", ["unloaded", "reloaded", "another policy"])
async def test_a_model_that_has_answered_is_gone_once_it_is_not_served(settings: Settings, how: str) -> None:
    async with running() as engine:
        lifecycle = await begun(settings)
        model = lifecycle.registry.models["small@1"]
        choice = lifecycle.registry.resolve("small", 2e6, None, patient=True, single=True)
        await classify(engine, model, list(random_images(3)), choice.plan)
        gone = weakref.ref(model)
        if how == "another policy":
            await lifecycle.set_policy("small", cheaper(model.policy))
        del model, choice
        await (lifecycle.unload if how == "unloaded" else lifecycle.load)("small")
        assert gone() is None
