"""Closed-loop load on a running service, in which every single answer is checked.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000      then see the page on port 8089
    ... --headless --users 8 --run-time 60s                            exit code 1 on any fault

``EXITRAMP_LOADTEST_IMAGES`` names a folder of images, ``<anything>-<class index or class name>.png``, whose
accuracy is logged at the end; without it the images are synthetic. One FLOP is one multiply-add.
"""

import io
import json
import logging
import os
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, events, task
from PIL import Image

logger = logging.getLogger("exitramp.loadtest")

IMAGES_IN_POOL = 512
IMAGES_PER_REQUEST = 64  # the most that one multipart request may carry
BUDGETS = range(16_000_000, 60_000_001, 100_000)  # FLOPs: from above the cheapest exit to above the dearest
SIZES = ((1, 1), (32, 32), (48, 32), (64, 64), (96, 160), (224, 224), (320, 240))
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

NUMBER = (int, float)
ANSWER = {"model": str, "version": int, "policy": str, "task": str, "budget": dict, "predictions": list}
ANSWER |= {"flops": int, "timing_ms": dict}
TIMING = dict.fromkeys(("decode", "queue", "compute", "total"), NUMBER)
CANDIDATE = {"label": str, "index": int, "probability": NUMBER}
PREDICTION = {**CANDIDATE, "top": list, "exit": int, "exits": int, "flops": int, "degraded": bool}


@dataclass(frozen=True)
class Picture:
    """An encoded image and, where the folder states it, what it shows."""

    content: bytes
    media_type: str
    label: str | None = None


@dataclass(frozen=True)
class Ask:
    """One request: its images and what each may cost, in multiply-adds."""

    pictures: tuple[Picture, ...]
    mean: int | None = None
    limit: int | None = None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def headers(self) -> dict[str, str]:
        """The request headers, each number in a notation drawn at random."""
        numbers = (("X-FLOP-Budget", self.mean), ("X-FLOP-Limit", self.limit))
        asked = {name: notation(flops) for name, flops in numbers if flops is not None}
        return {"X-Request-Id": self.request_id, **asked}


def notation(flops: int) -> str:
    """One of the ways to write a number of FLOPs; exact, for multiples of 100,000 below 100 M."""
    return random.choice(
        (f"{flops}", f"{flops:.4e}", f"{flops / 1e3:.0f}k", f"{flops / 1e6:.1f}M", f"{flops / 1e9:.4f}G")
    )


def synthetic() -> Image.Image:
    """Random colours, coarse or fine, so that images differ in how far through the network they go."""
    side = random.choice((2, 4, 8, 16))
    return Image.frombytes("RGB", (side, side), random.randbytes(side * side * 3))


def altered(image: Image.Image) -> Picture:
    """The image in a size and format drawn at random; the declared type may hide it, for the bytes decide."""
    buffer, image_format = io.BytesIO(), random.choice(FORMATS)
    image.resize(random.choice(SIZES)).save(buffer, image_format)
    declared = random.choice((f"image/{image_format.lower()}", "application/octet-stream"))
    return Picture(buffer.getvalue(), declared)


def load_pictures(folder: str | None) -> tuple[Picture, ...]:
    """Fill the pool once, before the load: encoding while it runs would take the processor from the service.

    Raises:
        SystemExit: The folder holds no image, or one whose name ends in no label.
    """
    if not folder:
        return tuple(altered(synthetic()) for _ in range(IMAGES_IN_POOL))
    paths = sorted(Path(folder).glob("*.png"))
    if not paths:
        raise SystemExit(f"EXITRAMP_LOADTEST_IMAGES={folder}: no *.png file there")
    pictures = []
    for path in random.sample(paths, min(len(paths), IMAGES_IN_POOL)):
        stem, dash, label = path.stem.rpartition("-")
        if not (stem and dash and label):
            raise SystemExit(f"{path}: a labelled image is named <anything>-<class index or class name>.png")
        pictures.append(Picture(path.read_bytes(), "image/png", label))
        # No label: what another size or a lossy format does to the accuracy is not what is measured here.
        with Image.open(path) as image:
            pictures.append(altered(image.convert("RGB")))
    return tuple(pictures)


def multipart(pictures: tuple[Picture, ...]) -> tuple[bytes, str]:
    """The body and content type of a request with one part named ``image`` for each picture."""
    boundary, body = uuid.uuid4().hex, bytearray()
    for position, picture in enumerate(pictures):
        disposition = f'Content-Disposition: form-data; name="image"; filename="{position}"'
        body += f"--{boundary}\r\n{disposition}\r\nContent-Type: {picture.media_type}\r\n\r\n".encode()
        body += picture.content + b"\r\n"
    return bytes(body) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def faults(ask: Ask, answer: object, headers: Mapping[str, str]) -> list[str]:
    """Everything in a 200 answer that breaks the contract; the values only once the fields are all there."""
    found = list(field_faults("answer", answer, ANSWER))
    if found or not isinstance(answer, dict):
        return found
    found += field_faults("timing_ms", answer["timing_ms"], TIMING)
    if len(answer["predictions"]) != len(ask.pictures):
        found.append(f"{len(answer['predictions'])} predictions for {len(ask.pictures)} images")
    for position, prediction in enumerate(answer["predictions"]):
        wrong = list(field_faults(f"predictions[{position}]", prediction, PREDICTION))
        found += wrong or prediction_faults(f"predictions[{position}]", prediction, ask.limit)
    return found or list(sum_faults(ask, answer, headers))


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


def prediction_faults(where: str, prediction: dict[str, Any], limit: int | None) -> Iterator[str]:
    """What is wrong with the answer for one image."""
    if not 1 <= prediction["exit"] <= prediction["exits"]:
        yield f"{where}.exit is {prediction['exit']} of {prediction['exits']}"
    if prediction["flops"] <= 0:
        yield f"{where}.flops is {prediction['flops']}"
    if limit is not None and prediction["flops"] > limit:
        yield f"{where}.flops is {prediction['flops']}, over the limit of {limit}"
    top = prediction["top"]
    wrong = [fault for entry in top for fault in field_faults(f"{where}.top[]", entry, CANDIDATE)]
    if wrong or not 1 <= len(top) <= 5:
        yield from wrong or [f"{where}.top has {len(top)} entries"]
        return
    probabilities = [entry["probability"] for entry in top]
    if not all(0 <= probability <= 1 for probability in probabilities):
        yield f"{where} has a probability outside [0, 1]: {probabilities}"
    if probabilities != sorted(probabilities, reverse=True) or sum(probabilities) > 1.001:
        yield f"{where}.top does not descend or sums to more than one: {probabilities}"
    if any(prediction[name] != top[0][name] for name in CANDIDATE):
        yield f"{where} is not the first of its own top list"


def sum_faults(ask: Ask, answer: dict[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
    """Sums and headers that disagree with the predictions, or with what was asked."""
    spent = sum(prediction["flops"] for prediction in answer["predictions"])
    if answer["flops"] != spent:
        yield f"flops is {answer['flops']}, but the predictions sum to {spent}"
    if headers.get("X-FLOPs") != str(spent):
        yield f"X-FLOPs is {headers.get('X-FLOPs')}, but the predictions sum to {spent}"
    count = len(ask.pictures)
    # A lone image may exceed a mean budget: the promise is then over many requests.
    if ask.mean is not None and count > 1 and spent > count * ask.mean:
        yield f"{count} images cost {spent}, over {count} times the budget of {ask.mean}"

    for name, asked in (("mean", ask.mean), ("limit", ask.limit)):
        stated = answer["budget"].get(name)
        if asked is not None and (not isinstance(stated, NUMBER) or abs(stated - asked) > 1):
            yield f"budget.{name} is {stated}, but {asked} was asked"
    if headers.get("X-Request-Id") != ask.request_id:
        yield f"X-Request-Id is {headers.get('X-Request-Id')}, but {ask.request_id} was sent"
    if len(ask.pictures) == 1 and headers.get("X-Exit") != str(answer["predictions"][0]["exit"]):
        yield f"X-Exit is {headers.get('X-Exit')}, but the exit is {answer['predictions'][0]['exit']}"
    if not headers.get("Server-Timing"):
        yield "Server-Timing is missing"


PICTURES = load_pictures(os.environ.get("EXITRAMP_LOADTEST_IMAGES"))
TALLY: Counter[tuple[str, bool]] = Counter()  # labelled images by kind of request and whether it was right


class Classifier(FastHttpUser):
    """A client that draws its images and budgets at random and believes nothing it is told."""

    host = "http://127.0.0.1:8000"
    wait_time = between(0.0, 0.1)

    @task(4)
    def one_image(self) -> None:
        """One image with no budget, a mean budget, a hard limit, or both."""
        mean, limit = (random.choice((None, random.choice(BUDGETS))) for _ in range(2))
        asked = [name for name, flops in (("budget", mean), ("limit", limit)) if flops is not None]
        self.classify(" and ".join(asked) or "no budget", Ask((random.choice(PICTURES),), mean, limit))

    @task(1)
    def many_images(self) -> None:
        """Several images in one request, mostly few, whose sum the budget bounds exactly."""
        count = min(2 + int(random.expovariate(0.15)), IMAGES_PER_REQUEST)
        self.classify("many images", Ask(tuple(random.choices(PICTURES, k=count)), random.choice(BUDGETS)))

    def classify(self, kind: str, ask: Ask) -> None:
        """Send one request and report every fault of its answer as a failure."""
        body: Any  # bytes; Locust's annotation admits only str
        body, content_type = ask.pictures[0].content, ask.pictures[0].media_type
        if len(ask.pictures) > 1:
            body, content_type = multipart(ask.pictures)
        headers = {**ask.headers(), "Content-Type": content_type}
        with self.client.post(
            "/classify", data=body, headers=headers, name=f"/classify, {kind}", catch_response=True
        ) as response:
            if response.status_code != 200:
                said = (response.text or str(response.error))[:300]
                response.failure(f"status {response.status_code} instead of 200: {said}")
                return
            try:
                answer = json.loads(response.content or b"")
            except ValueError:
                response.failure(f"status 200, but the body is no JSON: {response.text[:100]!r}")
                return
            if found := faults(ask, answer, response.headers):
                response.failure("; ".join(found[:5]))
                return
        for picture, prediction in zip(ask.pictures, answer["predictions"], strict=True):
            if picture.label is not None:
                TALLY[kind, picture.label in (str(prediction["index"]), prediction["label"])] += 1


@events.test_stop.add_listener
def log_accuracy(**_: object) -> None:
    """State the share of labelled images that were classified rightly, for each kind of request."""
    for kind in sorted({kind for kind, _ in TALLY}):
        labelled = TALLY[kind, True] + TALLY[kind, False]
        logger.info("accuracy, %s: %.4f of %d labelled images", kind, TALLY[kind, True] / labelled, labelled)
