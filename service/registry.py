"""Which loaded model a text means, and which of them answers a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from model_store.store import StoreError
from service.engine.loaded import LoadedModel
from service.errors import UnknownModel
from service.family import Choice, Family


class Registry:
    """Finds the model and the plan for a request's X-Model, budget and limit. Never changes."""

    def __init__(self, models: Mapping[str, LoadedModel], default: str = "") -> None:
        """Index ``models`` by key, name (the latest version) and task (the latest version of each name).

        Args:
            models: Loaded models by key; without ``default`` the first one answers who names none.
            default: Name or key of that model.

        Raises:
            StoreError: Models of one task have different classes.
        """
        self.models = models
        self._by_text: dict[str, list[LoadedModel]] = {}
        self._families: dict[tuple[str, ...], Family] = {}
        latest: dict[str, LoadedModel] = {}
        for model in models.values():
            self._by_text[model.key] = [model]
            if model.name not in latest or latest[model.name].manifest.version < model.manifest.version:
                latest[model.name] = model
        self._by_text |= {name: [model] for name, model in latest.items()}
        classes: dict[str, LoadedModel] = {}
        for model in latest.values():
            first = classes.setdefault(model.manifest.task, model)
            if first.manifest.classes != model.manifest.classes:
                raise StoreError(f"{first.key} and {model.key} are of one task with different classes")
            if model.manifest.task not in latest:
                self._by_text.setdefault(model.manifest.task, []).append(model)
        self._default = self._by_text.get(default) or list(models.values())[:1]

    def find(self, text: str | None) -> list[LoadedModel]:
        """Models that ``text`` (task, name, name@version or nothing) means; several only for a task.

        Raises:
            UnknownModel: None is loaded under that name.
        """
        found = self._default if text is None else self._by_text.get(text)
        if not found:
            wanted = "no model is loaded" if text is None else f"no model or task {text!r} is loaded"
            raise UnknownModel(f"{wanted}; loaded: {', '.join(self._by_text) or 'none'}")
        return found

    def one_input(self, text: str | None) -> bool:
        """Whether an image is decoded in the same way whichever of the models that ``text`` means answers.

        Raises:
            UnknownModel: None is loaded under that name.
        """
        return self._family(tuple(self.find(text))).one_input

    def resolve(
        self,
        text: str | None,
        mean: float | None,
        limit: float | None,
        *,
        patient: bool,
        single: bool,
        anytime: bool = False,
        shrunk: Callable[[float, float], float] = lambda budget, floor: budget,
    ) -> Choice:
        """The model that answers, with its plan; of a task's models see ``Family.resolve``.

        Raises:
            UnknownModel: None is loaded under that name.
            BudgetTooSmall: No model of the task can meet budget or limit.
        """
        family = self._family(tuple(self.find(text)))
        return family.resolve(mean, limit, patient=patient, single=single, anytime=anytime, shrunk=shrunk)

    def _family(self, models: tuple[LoadedModel, ...]) -> Family:
        keys = tuple(model.key for model in models)
        if keys not in self._families:
            self._families[keys] = Family(models)
        return self._families[keys]
