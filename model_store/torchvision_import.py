"""Import torchvision beside a CPU-only torch.

PyPI's torchvision wheel is built for CUDA. Next to a CPU-only torch its native library does not load, and
the import then fails where Python registers fake kernels for ``torchvision::nms`` and ``torchvision::qnms``,
because nobody declared these two operators. Declaring their schemas first is enough; we use neither.
"""

from __future__ import annotations

import contextlib

import torch

for _name in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):  # already declared: a complete torchvision is here
        torch.library.define(
            f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

import torchvision  # noqa: E402

__all__ = ["torchvision"]
