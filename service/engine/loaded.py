"""A model as the engine holds it: manifest, executor, plans, accounts."""

from __future__ import annotations

from math import floor, log
from typing import TYPE_CHECKING

from pydantic import ValidationError

from model_store.ledger import Ledger
from model_store.manifest import Manifest
from model_store.nets.staged import Span, StagedNet
from model_store.policy import AIM, Plan, Policy, make_plan, path_flops, path_spans, stepwise
from model_store.store import ArtifactBroken, Store, with_policy
from service.engine.executors import Executor
from service.engine.health import Health
from service.engine.statistics import ModelStatistics
from service.engine.times import StageTimes

if TYPE_CHECKING:
    from service.engine.shadow import Shadow

LEVEL = 1.05
"""Ratio between neighbouring budget levels: budgets within 5 % share one account."""

HEAD_START = 0.3
"""Share of the latency objective by which the cheapest images would be due before the dearest.

As long as anybody waits before brownout has all default budgets at their floor, and no longer: who has a
deadline comes before those without one as long as these can still be in time.
"""

PLANS = 4096
"""Plans that a model keeps; clients repeat a handful of budgets, but name them."""


class LoadedModel:
    """One version of a model, ready to run."""

    def __init__(self, manifest: Manifest, executor: Executor) -> None:
        """Join what the store and the device know of the model."""
        self.manifest = manifest
        self.executor = executor
        self.name = manifest.name
        self.key = f"{manifest.name}@{manifest.version}"
        self.policy = manifest.policy
        self.stages = manifest.stages
        self.full_flops = path_flops(self.stages, range(len(self.stages)))[-1]  # no image can cost more
        self._plans: dict[tuple[float | None, float | None, bool], Plan] = {}
        self.times = StageTimes()
        self.statistics = ModelStatistics()
        self.health = Health(self.key, executor, manifest.input)
        self.shadow: Shadow | None = None
        self._ledgers: dict[tuple[int, tuple[int, ...]], Ledger] = {}
        self._net: StagedNet | None = None

    def continues(self, other: LoadedModel) -> None:
        """Go on with the accounts of ``other``, in whose place this one comes: debts outlive a reload."""
        self._ledgers = other._ledgers

    def with_policy(self, policy: Policy) -> LoadedModel:
        """The same weights on the same device under another policy, with accounts of its own.

        Raises:
            ValueError: The policy is not for this network.
        """
        try:
            manifest = with_policy(self.manifest, policy)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from error
        other = LoadedModel(manifest, self.executor)
        other.times, other.statistics, other._net = self.times, self.statistics, self._net
        other.health = self.health
        return other

    def plan(self, mean: float | None, limit: float | None, patient: bool) -> Plan:
        """The plan for a budget and a limit; made once.

        Args:
            mean: Mean FLOPs per image, or ``None``.
            limit: FLOPs that no image may exceed, or ``None``.
            patient: Whether no answer need be in hand on the way; else exits there are consulted to have one.

        Raises:
            UnaffordableError: Budget or limit is below the cheapest exit.
        """
        key = (mean, limit, patient)
        # No lru_cache of a method: a model in a cycle would stay in memory until the next full collection.
        if key not in self._plans:
            plan = make_plan(self.policy, self.stages, mean, limit)
            if not patient and len(plan.exits) == 1:
                plan = stepwise(self.policy, self.stages, plan)
            if len(self._plans) >= PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return self._plans[key]

    def ledger(self, plan: Plan) -> Ledger | None:
        """The account of the plan's budget level, if it has a budget to hold."""
        if plan.budget is None:
            return None
        level = (floor(log(plan.budget) / log(LEVEL)), plan.exits)
        return self._ledgers.setdefault(level, Ledger())

    def allowed_flops(self, plan: Plan) -> float:
        """FLOPs that ``plan`` allows an image; no more than the whole network costs can be spent."""
        return min(plan.allowed, self.full_flops)

    def patience_s(self, plan: Plan, objective_s: float) -> float:
        """Time for an image without a deadline, seconds: ``objective_s``, and less where ``plan`` is cheap.

        So cheap images do not wait behind a crowd of dear ones, whom they delay by no more than that.
        """
        return objective_s * (1 - HEAD_START * (1 - self.allowed_flops(plan) / self.full_flops))

    def span_flops(self, span: Span) -> int:
        """FLOPs of one image in ``span``."""
        return (
            sum(stage.block for stage in self.stages[span.first : span.last + 1])
            + self.stages[span.last].head
        )

    def served_spans(self) -> list[Span]:
        """Spans that the policy's segments and plain limits use."""
        paths = [tuple(k - 1 for k in segment.exits) for segment in self.policy.segments]
        paths += [(k,) for k in range(len(self.stages))]
        # Re-checks go on from any exit of the policy to the end.
        paths += [(k, len(self.stages) - 1) for path in paths for k in path[:-1] if k + 1 < len(self.stages)]
        return list(dict.fromkeys(span for path in paths for span in path_spans(path)))

    def default_spans(self) -> list[Span]:
        """Spans that a request without a budget of its own may take."""
        exits = self.policy.segment_for(self.policy.default_flops).exits
        return path_spans(tuple(k - 1 for k in exits))

    def expected_accuracy(self, plan: Plan) -> float:
        """Held-out accuracy that the calibration promises for ``plan``."""
        if plan.segment is None or len(plan.exits) == 1:
            return self.manifest.exits[plan.exits[-1]].accuracy
        if len(plan.exits) < len(plan.segment.exits):  # cut short by a limit: at least its first exit's
            return self.manifest.exits[plan.exits[0]].accuracy
        return plan.segment.accuracy_at(plan.allowed * AIM)

    def reference_net(self, store: Store) -> StagedNet:
        """The network itself in float32 on the CPU, read from ``store`` at the first call.

        Executors keep their own forms of it; only explanations want this one.

        Raises:
            StoreError: It is not in ``store`` any more, or other weights are.
        """
        if self._net is None:
            artifact = store.load(self.name, self.manifest.version)
            if artifact.manifest.weights_sha256 != self.manifest.weights_sha256:
                raise ArtifactBroken(f"{self.key}: the weights in the store are not those that are served")
            self._net = artifact.net
        return self._net
