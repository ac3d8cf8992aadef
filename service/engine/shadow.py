"""A policy on trial: some images run under it too, in the background, and nobody gets those answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from model_store.policy import Policy, UnaffordableError
from service.engine.loaded import LoadedModel
from service.engine.sample import Sample
from service.engine.ticket import Image, Prediction, Ticket


class Shadow:
    """Compares a policy with the one that answers, on the same images.

    Attributes:
        policy: On trial.
        images: Compared so far.
        agreed: Of these, how many got the same class from both.
        flops: Charged for these by the policy that answers, and what the one on trial would have charged.
    """

    def __init__(self, model: LoadedModel, policy: Policy, share: float) -> None:
        """Try ``policy`` on ``share`` (0..1) of the images that ``model`` answers."""
        self.policy, self.images, self.agreed, self.flops = policy, 0, 0, (0, 0)
        self.model = model.with_policy(policy)
        self._sample = Sample(share)

    def ticket(
        self, image: Image, mean: float | None, limit: float | None, live: Callable[[], Prediction | None]
    ) -> Ticket | None:
        """A ticket for the background, or ``None`` if this image's turn it is not.

        Args:
            image: uint8 (3, H, W).
            mean: Mean FLOPs per image asked for, or ``None``.
            limit: FLOPs that no image may exceed, or ``None``.
            live: What the policy in force answered, once it has.
        """
        if not self._sample.picks():
            return None
        try:
            plan = self.model.plan(mean, limit, True)
        except UnaffordableError:  # below what this policy can do: nothing to compare
            return None

        def compare(tried: Prediction) -> None:
            if (answered := live()) is not None:
                self.images += 1
                self.agreed += tried.classes[0] == answered.classes[0]
                self.flops = (self.flops[0] + answered.flops, self.flops[1] + tried.flops)

        ledger = self.model.ledger(plan)
        now_s = time.monotonic()
        return Ticket(self.model, plan, image, now_s, None, ledger=ledger, finished=compare)
