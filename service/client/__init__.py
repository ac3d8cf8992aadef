"""The Python client: ``Client`` and ``AsyncClient``, with ``httpx`` alone.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.classify("ship.png", budget="25M")
        print(answer.prediction.label, answer.flops)

It imports nothing of the server: who only asks does not load what answers.
"""

from service.client.answers import (
    Answer,
    Budget,
    CurvePoint,
    Explanation,
    FailedImage,
    Model,
    ModelExit,
    Prediction,
    StreamedPrediction,
    Timing,
    TopClass,
)
from service.client.asynchronous import AsyncClient, AsyncPredictionStream
from service.client.blocking import Client, PredictionStream
from service.client.calls import Image, Number, Options
from service.client.errors import (
    BudgetTooSmall,
    DeadlineExceeded,
    ExitrampError,
    NoAnswer,
    Refused,
    RetryLater,
    Unauthorized,
    UnexpectedAnswer,
    UnknownModel,
    UnusableImage,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncPredictionStream",
    "Budget",
    "BudgetTooSmall",
    "Client",
    "CurvePoint",
    "DeadlineExceeded",
    "ExitrampError",
    "Explanation",
    "FailedImage",
    "Image",
    "Model",
    "ModelExit",
    "NoAnswer",
    "Number",
    "Options",
    "Prediction",
    "PredictionStream",
    "Refused",
    "RetryLater",
    "StreamedPrediction",
    "Timing",
    "TopClass",
    "Unauthorized",
    "UnexpectedAnswer",
    "UnknownModel",
    "UnusableImage",
]
