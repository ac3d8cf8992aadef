"""Successful answers as the embedded ``cifar10-fusion`` gave them, shortened."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_TOP: Final = [
    {"label": "ship", "index": 8, "probability": 0.99475},
    {"label": "truck", "index": 9, "probability": 0.00259},
]

_PREDICTION: Final[Json] = {
    **_TOP[0],
    "top": _TOP,
    "exit": 1,
    "exits": 7,
    "flops": 15258880,
    "degraded": False,
}

_SUMMARY: Final[Json] = {
    "model": "cifar10-fusion",
    "version": 3,
    "policy": "ca4262baef8c",
    "task": "cifar10",
    "budget": {"mean": 25000000, "limit": None, "deadline_ms": None},
    "flops": 15258880,
    "timing_ms": {"decode": 0.8, "queue": 0.2, "compute": 2.3, "total": 4.1},
}

_ONE: Final[Json] = {**_SUMMARY, "predictions": [_PREDICTION]}

_SEVERAL: Final[Json] = {
    **_SUMMARY,
    "predictions": [
        _PREDICTION,
        {
            "error": {
                "code": "unsupported_media_type",
                "detail": "image is not JPEG, PNG, WebP, GIF or BMP by its first bytes",
            }
        },
    ],
}

NAMED: Final[dict[str, Json]] = {
    "one_image": {"summary": "one image", "value": _ONE},
    "several_images": {"summary": "several images, one of them unusable", "value": _SEVERAL},
}
"""Those with a ``null``, which FastAPI would leave out: ``complete`` adds them, and routes refer to them."""

EVENTS: Final = """event: prediction
data: {"label":"ship","index":8,"probability":0.99475,"exit":1,"exits":7,"flops":15258880,"elapsed_ms":3.9}

event: done
data: {"model":"cifar10-fusion","version":3,"policy":"ca4262baef8c","task":"cifar10","flops":15258880}

"""

MODEL: Final[Json] = {
    "name": "cifar10-fusion",
    "version": 3,
    "task": "cifar10",
    "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "input": {
        "height": 32,
        "width": 32,
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.247, 0.2435, 0.2616],
        "resize": 32,
        "interpolation": "bilinear",
    },
    "device": "CPU f32",
    "policy": "ca4262baef8c",
    "default_budget": 21521934.07,
    "exits": [
        {"exit": 1, "flops": 15258880, "dense_flops": 15258880, "accuracy": 0.8976, "test_accuracy": 0.9019},
        {"exit": 2, "flops": 21777664, "dense_flops": 23319040, "accuracy": 0.9088, "test_accuracy": 0.9115},
    ],
    "curve": [
        {"mean_flops": 15258880, "accuracy": 0.8976},
        {"mean_flops": 15392819.456, "accuracy": 0.9},
    ],
    "provenance": {"command": "exitramp train cifar10-fusion", "seed": 0},
}

METRICS: Final = """# HELP exitramp_requests_total Answered requests.
# TYPE exitramp_requests_total counter
exitramp_requests_total{code="200",route="/classify"} 5.0
"""

POLICY: Final[Json] = {
    "confidence": "probability",
    "default_flops": 20000000,
    "segments": [
        {
            "exits": [1, 3],
            "entries": [
                {"mean_flops": 16000000, "accuracy": 0.9, "thresholds": [0.2], "shares": [0.95, 0.05]},
                {"mean_flops": 30000000, "accuracy": 0.92, "thresholds": [0.9], "shares": [0.2, 0.8]},
            ],
        }
    ],
}

POLICIES: Final[Json] = {
    "model": "cifar10-fusion",
    "version": 3,
    "revisions": [{"revision": 1, "policy": "ca4262baef8c", "default_budget": 21521934.07, "in_force": True}],
    "shadow": {
        "policy": "9f86d0818841",
        "images": 1200,
        "agreement": 0.991,
        "mean_flops": 19310222.5,
        "live_mean_flops": 21433201.0,
    },
}

METADATA: Final[Json] = {
    "name": "cifar10-fusion",
    "versions": ["3"],
    "platform": "exitramp_multiexit",
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}],
    "outputs": [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
    ],
}

CONFIG: Final[Json] = {
    "name": "cifar10-fusion",
    "platform": "exitramp_multiexit",
    "backend": "exitramp",
    "version_policy": {"latest": {"num_versions": 1}},
    "max_batch_size": 64,
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [32, 32, 3], "format": "FORMAT_NHWC"}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}],
    "dynamic_batching": {"preferred_batch_size": [16], "max_queue_delay_microseconds": 1000},
    "parameters": {"task": {"string_value": "cifar10"}, "default_budget": {"string_value": "21521934"}},
}

_SEVEN: Final[Json] = {"count": 7, "ns": 57016771}

STATISTICS: Final[Json] = {
    "model_stats": [
        {
            "name": "cifar10-fusion",
            "version": "3",
            "last_inference": 1795368686049,
            "inference_count": 7,
            "execution_count": 7,
            "inference_stats": {
                **{part: _SEVEN for part in ("success", "queue")},
                **{part: _SEVEN for part in ("compute_input", "compute_infer", "compute_output")},
                **{part: {"count": 0, "ns": 0} for part in ("fail", "cache_hit", "cache_miss")},
            },
            "batch_stats": [
                {"batch_size": 1, "compute_input": _SEVEN, "compute_infer": _SEVEN, "compute_output": _SEVEN}
            ],
        }
    ]
}

INDEX: Final[list[Json]] = [
    {"name": "cifar10-fusion", "version": "3", "state": "READY", "reason": ""},
    {"name": "cifar10-shufflenet", "version": "1", "state": "UNAVAILABLE", "reason": ""},
]

PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGM4ceIEAATOAmax2+RGAAAAAElFTkSuQmCC"
"""A PNG of one pixel, in base64."""

INFER: Final[Json] = {
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [PIXEL]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}, {"name": "exit"}],
    "parameters": {"flop_budget": "25M"},
}

INFERRED: Final[Json] = {
    "model_name": "cifar10-fusion",
    "model_version": "3",
    "parameters": {"flops": 15258880, "policy": "ca4262baef8c", "degraded": False, "exit": 1},
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["ship"]},
        {"name": "exit", "datatype": "INT32", "shape": [1, 1], "data": [1]},
    ],
}
