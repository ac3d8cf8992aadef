"""What an answer of the service has to be, whatever was asked: every fault of one, in words.

Knows the HTTP contract and nothing else; the standard library is enough.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NUMBER = (int, float)
ANSWER = {"model": str, "version": int, "policy": str, "task": str, "budget": dict, "predictions": list}
ANSWER |= {"flops": int, "timing_ms": dict}
TIMING = dict.fromkeys(("decode", "queue", "compute", "total"), NUMBER)
CANDIDATE = {"label": str, "index": int, "probability": NUMBER}
PREDICTION = {**CANDIDATE, "top": list, "exit": int, "exits": int, "flops": int, "degraded": bool}
PROBLEM = {"type": str, "title": str, "status": int, "detail": str, "code": str, "request_id": str}
LATER = {429: "quota_exhausted", 503: "overloaded"}
"""Refusals that a sound request may meet, and that say when to come back."""


@dataclass(frozen=True)
class Ask:
    """One request: how many images, of which model, and what each may cost, in multiply-adds.

    Attributes:
        images: Sent in one request.
        model: The ``X-Model`` to send; without it the default model answers.
        allowed: The models that may answer, as ``GET /models`` describes them.
        mean: ``X-FLOP-Budget``.
        limit: ``X-FLOP-Limit``.
        deadline_ms: ``X-Deadline-Ms``.
        streamed: Whether the answer is a stream of events.
    """

    images: int
    model: str | None
    allowed: Sequence[Mapping[str, Any]]
    mean: int | None = None
    limit: int | None = None
    deadline_ms: int | None = None
    streamed: bool = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def cheapest(self) -> int:
        """FLOPs of the cheapest exit: what has to be allowed at least."""
        return int(min(model["exits"][0]["flops"] for model in self.allowed))

    def headers(self) -> dict[str, str]:
        """The request headers, each number of FLOPs in a notation drawn at random."""
        asked = {"X-Request-Id": self.request_id}
        if self.model is not None:
            asked["X-Model"] = self.model
        if self.deadline_ms is not None:
            asked["X-Deadline-Ms"] = str(self.deadline_ms)
        numbers = (("X-FLOP-Budget", self.mean), ("X-FLOP-Limit", self.limit))
        return asked | {name: notation(flops) for name, flops in numbers if flops is not None}


def notation(flops: int) -> str:
    """One of the ways to write exactly that number of FLOPs."""
    ways = [f"{flops}", f"{flops:.4e}"]
    ways += [f"{flops / 1000**power:g}{suffix}" for power, suffix in enumerate("kMGT", start=1)]
    return random.choice([way for way in ways if round(value_of(way)) == flops])


def value_of(number: str) -> float:
    """The number that the service reads."""
    power = "kMGT".find(number[-1]) + 1
    return float(number[:-1]) * 1000**power if power else float(number)


def faults(ask: Ask, answer: object, headers: Mapping[str, str]) -> list[str]:
    """Everything in a 200 answer that breaks the contract; the values only once the fields are all there."""
    found = list(field_faults("answer", answer, ANSWER))
    if found or not isinstance(answer, dict):
        return found
    found += field_faults("timing_ms", answer["timing_ms"], TIMING)
    model = next((model for model in ask.allowed if model["name"] == answer["model"]), None)
    if model is None:
        return [*found, f"{answer['model']} answered, but {ask.model or 'the default model'} was asked"]
    if len(answer["predictions"]) != ask.images:
        found.append(f"{len(answer['predictions'])} predictions for {ask.images} images")
    for position, prediction in enumerate(answer["predictions"]):
        where = f"predictions[{position}]"
        wrong = list(field_faults(where, prediction, PREDICTION))
        found += wrong or prediction_faults(where, prediction, model, ask.limit)
    return found or [*sum_faults(ask, answer), *header_faults(ask, answer, headers)]


def field_faults(where: str, value: object, fields: Mapping[str, Any]) -> Iterator[str]:
    """Fields that are missing or of another type."""
    if not isinstance(value, dict):
        yield f"{where} is no JSON object"
    elif "error" in value:
        yield f"{where} is an error for a sound image: {value['error']}"
    else:
        for name, kind in fields.items():
            if name not in value:
                yield f"{where} lacks {name!r}"
            # A bool is an int to Python, but not to the contract.
            elif not isinstance(value[name], kind) or (isinstance(value[name], bool) and kind is not bool):
                yield f"{where}.{name} has the wrong type: {value[name]!r}"


def prediction_faults(
    where: str, prediction: dict[str, Any], model: Mapping[str, Any], limit: int | None
) -> Iterator[str]:
    """What is wrong with the answer for one image."""
    if prediction["exits"] != len(model["exits"]) or not 1 <= prediction["exit"] <= prediction["exits"]:
        yield f"{where}.exit is {prediction['exit']} of {prediction['exits']}, not of {len(model['exits'])}"
    if prediction["flops"] < model["exits"][0]["flops"]:
        yield f"{where}.flops is {prediction['flops']}, less than the cheapest exit costs"
    if limit is not None and prediction["flops"] > limit:
        yield f"{where}.flops is {prediction['flops']}, over the limit of {limit}"
    top, classes = prediction["top"], model["classes"]
    wrong = [fault for entry in top for fault in field_faults(f"{where}.top[]", entry, CANDIDATE)]
    if wrong or len(top) != min(5, len(classes)):
        yield from wrong or [f"{where}.top has {len(top)} entries of {len(classes)} classes"]
        return
    for entry in top:
        if not 0 <= entry["index"] < len(classes) or classes[entry["index"]] != entry["label"]:
            yield f"{where}.top has {entry['label']!r} at {entry['index']}, which is no class of the model"
    probabilities = [entry["probability"] for entry in top]
    if not all(0 <= probability <= 1 for probability in probabilities):
        yield f"{where} has a probability outside [0, 1]: {probabilities}"
    if probabilities != sorted(probabilities, reverse=True) or sum(probabilities) > 1.001:
        yield f"{where}.top does not descend or sums to more than one: {probabilities}"
    if any(prediction[name] != top[0][name] for name in CANDIDATE):
        yield f"{where} is not the first of its own top list"


def sum_faults(ask: Ask, answer: dict[str, Any]) -> Iterator[str]:
    """Sums that disagree with the predictions, and a budget other than the one asked."""
    spent = sum(prediction["flops"] for prediction in answer["predictions"])
    if answer["flops"] != spent:
        yield f"flops is {answer['flops']}, but the predictions sum to {spent}"
    # A lone image may exceed a mean budget: the promise is then over many requests.
    if ask.mean is not None and ask.images > 1 and spent > ask.images * ask.mean:
        yield f"{ask.images} images cost {spent}, over {ask.images} times the budget of {ask.mean}"
    for name, asked in (("mean", ask.mean), ("limit", ask.limit), ("deadline_ms", ask.deadline_ms)):
        if answer["budget"].get(name) != asked:
            yield f"budget.{name} is {answer['budget'].get(name)}, but {asked} was asked"


def header_faults(ask: Ask, answer: dict[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
    """Headers that disagree with the body; a stream's leave before anything is known."""
    expected = {"X-Request-Id": ask.request_id}
    if not ask.streamed:
        expected["X-FLOPs"] = str(answer["flops"])
        if ask.images == 1:
            expected["X-Exit"] = str(answer["predictions"][0]["exit"])
        if not headers.get("Server-Timing"):
            yield "Server-Timing is missing"
    for name, value in expected.items():
        if headers.get(name) != value:
            yield f"{name} is {headers.get(name)} instead of {value}"


def error_faults(ask: Ask, status: int, problem: object, headers: Mapping[str, str]) -> list[str]:
    """What is wrong with an answer that is no 200: its form, or that a sound request got it at all."""
    found = list(field_faults("problem", problem, PROBLEM))
    if found or not isinstance(problem, dict):
        return [f"status {status}: {fault}" for fault in found]
    code, detail = problem["code"], problem["detail"]
    if (problem["status"], problem["request_id"]) != (status, ask.request_id):
        found.append(f"status {status}, but the body says {problem['status']}, for {problem['request_id']}")
    too_small = any(flops is not None and flops < ask.cheapest for flops in (ask.mean, ask.limit))
    if (status, code) == (422, "budget_too_small") and too_small:
        if str(ask.cheapest) not in detail:
            found.append(f"budget_too_small without the cheapest exit's {ask.cheapest} FLOPs: {detail}")
    elif LATER.get(status) == code:
        if not headers.get("Retry-After", "").isdecimal():
            found.append(f"{code} with Retry-After {headers.get('Retry-After')}")
    elif (status, code) != (504, "deadline_exceeded") or ask.deadline_ms is None:
        found.append(f"status {status} {code}: {detail}")
    return found


def read_stream(body: str) -> dict[str, Any]:
    """The answer that a stream of events adds up to; ``passed`` holds what each exit said.

    Raises:
        ValueError: It is not predictions followed by one ``done``.
    """
    events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in body.strip().split("\n\n")]
    *before, last = [(event["event"], json.loads(event["data"])) for event in events]
    if last[0] != "done" or not before or any(name != "prediction" for name, _ in before):
        raise ValueError(f"events {[name for name, _ in before]}, then {last[0]}")
    passed = [prediction for _, prediction in before]
    if any(later["exit"] <= sooner["exit"] for sooner, later in pairwise(passed)):
        raise ValueError(f"exits {[prediction['exit'] for prediction in passed]}")
    return {**last[1], "predictions": passed[-1:], "passed": passed}
