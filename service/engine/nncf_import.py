"""Import NNCF without what it does to the rest of the process.

It comes after OpenVINO, whose import takes away the telemetry that both would report through. And it makes
its own kind of logger the one that everybody gets from then on, which says a warning only once.
"""

from __future__ import annotations

import logging

import service.engine.openvino_import  # noqa: F401

_kind = logging.getLoggerClass()

import nncf  # noqa: E402

logging.setLoggerClass(_kind)

__all__ = ["nncf"]
