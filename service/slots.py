"""What was asked to be loaded, and what serves it; see ``service.lifecycle``."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_store.policy import Policy
from service.engine.loaded import LoadedModel
from service.family import points


@dataclass
class Slot:
    """What was asked for, and what serves it.

    Attributes:
        model: Under the current policy.
        policies: All policies that the model has had since it was loaded, oldest first.
        revision: Position in these of the one in force, 1-based.
    """

    model: LoadedModel
    policies: list[Policy] = field(default_factory=list)
    revision: int = 1

    def __post_init__(self) -> None:
        """Begin with the policy of the artifact."""
        self.policies = self.policies or [self.model.policy]


@dataclass(frozen=True)
class Listed:
    """One artifact of the store, or of what is loaded.

    Attributes:
        name: Of the artifact.
        version: Of the artifact.
        loaded: Whether requests can name it.
        reason: Why it could not be loaded the last time somebody tried, or empty.
    """

    name: str
    version: int
    loaded: bool
    reason: str


def with_slot(slots: dict[str, Slot], wanted: str, model: LoadedModel) -> dict[str, Slot]:
    """``slots`` with ``model`` as what ``wanted`` means; the same version asked for twice has one slot."""
    slot = Slot(model)
    shared = {text: slot if other.model.key == model.key else other for text, other in slots.items()}
    return {**shared, wanted: slot}


def plan_all(model: LoadedModel) -> None:
    """Try every budget that the policy of ``model`` is for.

    Raises:
        UnaffordableError: One is below what the network's exits cost.
    """
    for budget in (model.policy.default_flops, *(point.budget for point in points(model))):
        model.plan(budget, None, True)
