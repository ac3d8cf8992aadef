"""Import OpenVINO without its telemetry.

``import openvino`` reports the import over the network through ``openvino_telemetry``, unless that package
is missing. A server must not phone home, so for this process it is missing: OpenVINO then uses its own no-op
stand-in.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes the import fail, as documented

import openvino  # noqa: E402
import openvino.opset13 as opset  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

__all__ = ["TorchScriptPythonDecoder", "openvino", "opset"]
