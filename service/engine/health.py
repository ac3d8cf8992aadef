"""Whether launches of a model work; where they do not, it is refused and tried again until they do."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import torch

from model_store.exits import Confidence
from model_store.nets.staged import Features, Span
from model_store.preprocess import InputSpec
from service.engine.executors import Executor
from service.engine.ticket import LaunchError

FAILURES = 3
"""Launches of one span in a row that must fail until its model counts as unwell: one may be bad luck."""

TRIAL_S = 1.0
"""Time between two trials of what is unwell, seconds."""

MEMORY_SIGNS = ("out of memory", "bad_alloc", "allocate memory", "alloc_failed")
"""What libraries without an error of its own for it say, in lower case, when there is no memory."""


class NotFinite(LaunchError):
    """A launch returned values that are no numbers, for ``images`` of a batch."""

    def __init__(self, span: Span, images: int) -> None:
        """Say where."""
        super().__init__(f"span {span} returned values that are not finite for {images} images")
        self.images = images


class Unwell(LaunchError):
    """Nothing is computed now, in vain as it would be; ``retry_after_s`` is when it may be again."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        """Say what is the matter."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


def reason_of(error: Exception) -> str:
    """Why a launch failed, as metrics name it: ``out_of_memory``, ``not_finite`` or ``error``."""
    if isinstance(error, NotFinite):
        return "not_finite"
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return "out_of_memory" if short or any(sign in said for sign in MEMORY_SIGNS) else "error"


def helps_to_halve(error: Exception, images: int) -> bool:
    """Whether fewer images at a time may be computed where a batch of ``images`` was not.

    That is so if memory was short, or if only some of them are to blame: no operation mixes images. What else
    a device or a compiler raises it would raise again, after everybody has waited for it several times.
    """
    partly = isinstance(error, NotFinite) and error.images < images
    return images > 1 and (partly or reason_of(error) == "out_of_memory")


class Health:
    """How launches of one executor have been going; shared by all policies of a model.

    The worker's thread writes; anybody may ``check``.

    Attributes:
        model: Key of the model.
        broken: The span that fails, or ``None`` while the model is well.
    """

    def __init__(self, model: str, executor: Executor, spec: InputSpec) -> None:
        """Begin well."""
        self.model = model
        self.broken: Span | None = None
        self._executor, self._spec = executor, spec
        self._failed: dict[Span, int] = {}

    def worked(self, span: Span) -> None:
        """Enter a launch that did what it should."""
        if self._failed:
            self._failed.pop(span, None)

    def failed(self, span: Span) -> bool:
        """Enter one that did not; whether the model is unwell from now on."""
        self._failed[span] = self._failed.get(span, 0) + 1
        if self.broken is not None or self._failed[span] < FAILURES:
            return False
        self.broken = span
        return True

    def check(self) -> None:
        """Do nothing while the model is well.

        Raises:
            Unwell: It is not.
        """
        if self.broken is not None:
            raise self.unwell()

    def unwell(self) -> Unwell:
        """What whoever asks for the model is told."""
        failed = f"{FAILURES} launches in a row failed"
        return Unwell(f"{self.model}: {failed}; it is tried again every {TRIAL_S:g} s", TRIAL_S)

    def try_out(self, span: Span) -> None:
        """Run ``span``, which fails, once more; if that works the model is well again.

        Raises:
            Exception: Whatever the device raises; the model stays unwell.
        """
        before = [Span(0, span.first - 1)] if span.first else []
        run_grey(self._executor, self._spec, [*before, span])
        self._failed.clear()
        self.broken = None


class Trials:
    """What is unwell, and when each is tried again. Belongs to the worker's thread.

    It keeps no model alive: one that was unloaded is tried no more.
    """

    def __init__(self) -> None:
        """Begin with nothing: all are well."""
        self._due_s: dict[ref[Health], float] = {}

    def put(self, health: Health, now_s: float) -> None:
        """Have a model tried ``TRIAL_S`` from now on."""
        self._due_s[ref(health)] = now_s + TRIAL_S

    @property
    def next_s(self) -> float | None:
        """When the next one is due; ``None`` while all are well."""
        return min(self._due_s.values(), default=None)

    def take(self, now_s: float) -> Health | None:
        """One that is due; it is ``put`` back if it is still unwell."""
        for found, due_s in list(self._due_s.items()):
            health = found()
            if health is None or now_s >= due_s:
                del self._due_s[found]
                if health is not None:
                    return health
        return None


def run_grey(
    executor: Executor, spec: InputSpec, spans: Sequence[Span], measure: Confidence = "probability"
) -> None:
    """Run one grey image through ``spans`` and read what each says, as launches do.

    Raises:
        NotFinite: Values are no numbers.
        Exception: Whatever else the device raises.
    """
    features: Features = (torch.full((1, 3, spec.height, spec.width), 127, dtype=torch.uint8),)
    for span in spans:
        features, logits = executor.run(span, features)
        for whole in (False, True):
            if not torch.isfinite(executor.read(logits, measure, 1.0, whole)).all():
                raise NotFinite(span, 1)
        features = tuple(x.clone() for x in features)
