"""Models come and go while requests are answered.

A slot is what somebody asked for: ``name`` follows that name's latest version at each load, ``name@version``
stays what it is, so that versions can stand side by side. What is new is loaded and warmed up beside what
serves, then takes its place in one assignment; whoever is under way ends with the model he began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from model_store.policy import Policy
from model_store.store import Store, StoreError
from service.engine.loaded import LoadedModel
from service.engine.shadow import Shadow
from service.errors import InvalidRequest, UnknownModel
from service.heap import trim_heap
from service.loading import load_model, prepare, prepare_meanwhile
from service.metrics import DEVICE_FAILURES, Metrics
from service.process import settle_memory
from service.registry import Registry
from service.settings import Settings
from service.slots import Listed, Slot, plan_all, with_slot

logger = logging.getLogger(__name__)


class Lifecycle:
    """Owns what is loaded. All methods are for the event loop; the work itself is done in a thread."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Begin with nothing."""
        self.registry = Registry({})
        self._settings, self._metrics = settings, metrics
        self._slots: dict[str, Slot] = {}
        self._failures: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._unprepared: deque[LoadedModel] = deque()
        self._preparing: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Load what the settings name.

        Raises:
            StoreError: An artifact is missing or broken, or classes of one task differ.
        """
        async with self._changing:
            slots: dict[str, Slot] = {}
            for wanted in self._settings.models:
                slots = with_slot(slots, wanted, await asyncio.to_thread(load_model, self._settings, wanted))
            self._publish(slots)
            await asyncio.to_thread(settle_memory)
        for model in self.registry.models.values():
            self._prepare_later(model)

    async def close(self) -> None:
        """Leave off compiling what nobody has needed yet."""
        self._closed = True
        self._unprepared.clear()
        if self._preparing is not None:
            await self._preparing

    async def load(self, wanted: str) -> LoadedModel:
        """Load ``wanted`` anew, ``name`` or ``name@version``; what is loaded serves until then.

        Raises:
            StoreError: The artifact is missing or broken, or does not fit to the others of its task. What
                served before goes on.
        """
        async with self._changing:
            try:
                model = await asyncio.to_thread(load_model, self._settings, wanted)
                if wanted in self._slots:
                    model.continues(self._slots[wanted].model)
                self._publish(with_slot(self._slots, wanted, model))
            except StoreError as error:
                self._failures[self._key(wanted)] = str(error)
                raise
            self._failures.pop(model.key, None)
            await asyncio.to_thread(settle_memory)
        self._prepare_later(model)
        return model

    async def unload(self, wanted: str) -> None:
        """Take ``wanted`` away: all versions of a name, or one, by whatever name it was loaded.

        Raises:
            UnknownModel: It is not loaded.
        """
        async with self._changing:
            gone = [text for text, slot in self._slots.items() if wanted in (slot.model.name, slot.model.key)]
            if not gone:
                raise UnknownModel(
                    f"no model {wanted!r} is loaded; loaded: {', '.join(self._slots) or 'none'}"
                )
            self._publish({text: slot for text, slot in self._slots.items() if text not in gone})
            logger.info("model_unloaded", extra={"model": wanted})
            await asyncio.to_thread(settle_memory)

    def index(self) -> list[Listed]:
        """Everything in the store, loaded or not."""
        versions = Store(self._settings.model_store).versions()
        found = {(name, version) for name, known in versions.items() for version in known}
        found |= {(model.name, model.manifest.version) for model in self.registry.models.values()}
        listed = []
        for name, version in sorted(found):
            key = f"{name}@{version}"
            listed.append(Listed(name, version, key in self.registry.models, self._failures.get(key, "")))
        return listed

    def _key(self, wanted: str) -> str:
        """``name@version`` of what ``wanted`` means today."""
        versions = Store(self._settings.model_store).versions().get(wanted)
        return f"{wanted}@{max(versions)}" if versions else wanted

    @property
    def wanted(self) -> tuple[str, ...]:
        """What was asked for: names, each of which follows its latest version, and ``name@version``."""
        return tuple(self._slots)

    def slot(self, name: str) -> Slot:
        """The slot of a model, ``name`` or ``name@version``.

        Raises:
            UnknownModel: It is not loaded, or is a task.
        """
        for text, slot in self._slots.items():
            if name == text:
                return slot
        (model, *_) = self.registry.find(name)
        for slot in self._slots.values():
            if slot.model is model and name in (model.name, model.key):
                return slot
        raise UnknownModel(f"{name!r} is no model; policies belong to models, not to tasks")

    async def set_policy(self, name: str, policy: Policy) -> Slot:
        """Put ``policy`` in force for a model; the weights stay.

        Raises:
            UnknownModel: The model is not loaded.
            InvalidRequest: The policy is not for its network.
        """
        async with self._changing:
            slot = self.slot(name)
            await self._put_in_force(slot, policy)
            slot.policies.append(policy)
            slot.revision = len(slot.policies)
        return slot

    async def roll_back(self, name: str, revision: int | None = None) -> Slot:
        """Put an earlier policy of a model in force again, the one before by default.

        Raises:
            UnknownModel: The model is not loaded.
            InvalidRequest: There is no such revision.
        """
        async with self._changing:
            slot = self.slot(name)
            wanted = slot.revision - 1 if revision is None else revision
            if not 1 <= wanted <= len(slot.policies):
                raise InvalidRequest(f"revision {wanted} is not one of 1 to {len(slot.policies)}")
            await self._put_in_force(slot, slot.policies[wanted - 1])
            slot.revision = wanted
        return slot

    async def set_shadow(self, name: str, policy: Policy | None, share: float = 1.0) -> Slot:
        """Try ``policy`` in the background on a ``share`` of a model's images; ``None`` ends the trial.

        Raises:
            UnknownModel: The model is not loaded.
            InvalidRequest: The policy is not for its network.
        """
        async with self._changing:
            slot = self.slot(name)
            if policy is None:
                slot.model.shadow = None
                return slot
            try:
                shadow = Shadow(slot.model, policy, share)
                plan_all(shadow.model)
            except ValueError as error:
                raise InvalidRequest(f"the policy is not for {slot.model.key}: {error}") from error
            await asyncio.to_thread(prepare, shadow.model)
            slot.model.shadow = shadow
        return slot

    async def _put_in_force(self, slot: Slot, policy: Policy) -> None:
        try:
            model = slot.model.with_policy(policy)
            plan_all(model)
        except ValueError as error:
            raise InvalidRequest(f"the policy is not for {slot.model.key}: {error}") from error
        await asyncio.to_thread(prepare, model)
        model.continues(slot.model)
        slot.model = model
        self._publish(self._slots)
        logger.info("policy_set", extra={"model": model.key, "policy": policy.id})

    def _prepare_later(self, model: LoadedModel) -> None:
        """Compile in the background what only some requests use; one model after the other."""
        self._unprepared.append(model)
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare_all())

    async def _prepare_all(self) -> None:
        while self._unprepared:
            gone = await self._prepared_in_vain(self._unprepared.popleft())
            await asyncio.to_thread(settle_memory if gone else trim_heap)

    async def _prepared_in_vain(self, model: LoadedModel) -> bool:
        """Prepare ``model``; whether it is gone by then."""

        def is_gone() -> bool:
            return model not in self.registry.models.values()

        await asyncio.to_thread(prepare_meanwhile, model, lambda: self._closed or is_gone())
        return is_gone()

    def _publish(self, slots: dict[str, Slot]) -> None:
        """Serve ``slots`` from now on.

        Raises:
            StoreError: Classes of one task differ; nothing has changed.
        """
        models = {slot.model.key: slot.model for slot in slots.values()}
        registry = Registry(models, self._settings.models[0])
        self._slots, self.registry = slots, registry
        self._metrics.model_info.clear()
        self._metrics.exit_agreement.clear()  # of what is gone; the others are there with the next re-check
        for model in models.values():
            self._metrics.degraded.labels(model.name)  # from zero on
            for reason in DEVICE_FAILURES:
                self._metrics.device_failures.labels(model.name, reason)
            version, task = str(model.manifest.version), model.manifest.task
            self._metrics.model_info.labels(
                model.name, version, task, model.policy.id, model.executor.device
            ).set(1)
