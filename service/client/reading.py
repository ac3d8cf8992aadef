"""From the service's JSON to the dataclasses of ``answers``. All raise ``UnexpectedAnswer``."""

from __future__ import annotations

from typing import Any, Final

import httpx

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
from service.client.errors import UnexpectedAnswer
from service.client.fields import Fields

REQUEST_ID: Final = "X-Request-Id"


def answer(response: httpx.Response) -> Answer:
    """The answer of ``/classify``."""
    fields = Fields.parse(response.content, "the answer")
    entries = tuple(_entry(entry) for entry in fields.each("predictions"))
    return answer_about(entries, fields, response.headers.get(REQUEST_ID))


def answer_about(
    entries: tuple[Prediction | FailedImage, ...], fields: Fields, request_id: str | None
) -> Answer:
    """An answer whose ``predictions`` came separately, as a stream's do."""
    budget, timing = fields.inner("budget"), fields.inner("timing_ms")
    return Answer(
        model=fields.text("model"),
        version=fields.whole("version"),
        policy=fields.text("policy"),
        task=fields.text("task"),
        budget=Budget(
            mean=budget.number_or_none("mean"),
            limit=budget.number_or_none("limit"),
            deadline_ms=budget.number_or_none("deadline_ms"),
        ),
        predictions=entries,
        flops=fields.whole("flops"),
        timing=Timing(
            decode_ms=timing.number("decode"),
            queue_ms=timing.number("queue"),
            compute_ms=timing.number("compute"),
            total_ms=timing.number("total"),
        ),
        request_id=request_id,
    )


def streamed_prediction(fields: Fields) -> StreamedPrediction:
    """The data of one ``prediction`` event."""
    return StreamedPrediction(**_prediction(fields), elapsed_ms=fields.number("elapsed_ms"))


def explanation(response: httpx.Response) -> Explanation:
    """The answer of ``/explain``, whose numbers are headers."""
    kind = response.headers.get("content-type", "nothing")
    if kind.partition(";")[0] != "image/png":
        raise UnexpectedAnswer(f"the explanation is {kind}, not image/png")
    numbers = {name: response.headers.get(name, "") for name in ("X-Exit", "X-Class-Index", "X-FLOPs")}
    for name, text in numbers.items():
        if not (text.isascii() and text.isdecimal()):
            raise UnexpectedAnswer(f"{name} of the explanation is {text!r}, not a whole number")
    position, index, flops = (int(text) for text in numbers.values())
    return Explanation(response.content, position, index, flops)


def models(response: httpx.Response) -> tuple[Model, ...]:
    """The answer of ``/models``."""
    return tuple(_model(fields) for fields in Fields.parse(response.content, "the list").each("models"))


def model(response: httpx.Response) -> Model:
    """The answer of ``/models/{name}``."""
    return _model(Fields.parse(response.content, "the model"))


def _entry(fields: Fields) -> Prediction | FailedImage:
    if "error" in fields:
        error = fields.inner("error")
        return FailedImage(error.text("code"), error.text("detail"))
    return Prediction(**_prediction(fields))


def _prediction(fields: Fields) -> dict[str, Any]:
    """What ``Prediction`` and ``StreamedPrediction`` have in common, by name."""
    return {
        **_class(fields),
        "top": tuple(TopClass(**_class(entry)) for entry in fields.each("top")),
        "exit": fields.whole("exit"),
        "exits": fields.whole("exits"),
        "flops": fields.whole("flops"),
        "degraded": fields.flag("degraded"),
    }


def _class(fields: Fields) -> dict[str, Any]:
    return {
        "label": fields.text("label"),
        "index": fields.whole("index"),
        "probability": fields.number("probability"),
    }


def _model(fields: Fields) -> Model:
    return Model(
        name=fields.text("name"),
        version=fields.whole("version"),
        task=fields.text("task"),
        classes=fields.texts("classes"),
        input=fields.mapping("input"),
        device=fields.text("device"),
        policy=fields.text("policy"),
        default_budget=fields.number("default_budget"),
        exits=tuple(
            ModelExit(
                exit=entry.whole("exit"),
                flops=entry.whole("flops"),
                dense_flops=entry.whole("dense_flops"),
                accuracy=entry.number("accuracy"),
                test_accuracy=entry.number_or_none("test_accuracy"),
            )
            for entry in fields.each("exits")
        ),
        curve=tuple(
            CurvePoint(mean_flops=point.number("mean_flops"), accuracy=point.number("accuracy"))
            for point in fields.each("curve")
        ),
        provenance=fields.mapping("provenance"),
    )
