"""What a service may say, for tests of the client."""

PREDICTION = {
    "label": "cat",
    "index": 3,
    "probability": 0.91,
    "top": [
        {"label": "cat", "index": 3, "probability": 0.91},
        {"label": "dog", "index": 5, "probability": 0},
    ],
    "exit": 3,
    "exits": 7,
    "flops": 33576704,
    "degraded": False,
}
FAILED = {"error": {"code": "undecodable_image", "detail": "truncated"}}
ANSWER = {
    "model": "cifar10-fusion",
    "version": 1,
    "policy": "abc",
    "task": "cifar10",
    "budget": {"mean": 25000000, "limit": None, "deadline_ms": None},
    "predictions": [PREDICTION],
    "flops": 33576704,
    "timing_ms": {"decode": 0.2, "queue": 1, "compute": 3.0, "total": 4.6},
}
MODEL = {
    "name": "cifar10-fusion",
    "version": 1,
    "task": "cifar10",
    "classes": ["cat", "dog"],
    "input": {"height": 32},
    "device": "CPU",
    "policy": "abc",
    "default_budget": 2e7,
    "exits": [{"exit": 1, "flops": 15, "dense_flops": 16, "accuracy": 0.9, "test_accuracy": None}],
    "curve": [{"mean_flops": 15, "accuracy": 0.9}],
    "provenance": {"seed": 0},
}
