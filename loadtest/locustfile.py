"""Closed-loop load on a running service, in which every single answer is checked.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000      then see the page on port 8089
    ... --headless --users 8 --run-time 60s                            exit code 1 on any fault

Models, budgets, limits, deadlines, notations, image sizes and formats are drawn at random, the models from
what the service says it has. ``EXITRAMP_LOADTEST_IMAGES`` names a folder of images: ``CLASS/*`` have a class
(index or name), whose accuracy is logged at the end, ``*`` have none; without it images are synthetic.
``X-API-Key`` is ``EXITRAMP_LOADTEST_KEY``. One FLOP is one multiply-add. Beside Locust and Pillow this needs
the package's answers.py and nothing else of it.
"""

import io
import json
import logging
import os
import random
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, events, task
from locust.exception import StopUser
from PIL import Image

from loadtest.answers import Ask, error_faults, faults, read_stream

logger = logging.getLogger("exitramp.loadtest")

IMAGES_IN_POOL = 256
IMAGES_PER_REQUEST = 64  # the most that one multipart request may carry
BYTES_PER_REQUEST = 4_000_000  # less than what the service takes by default
SMALL = ((1, 1), (32, 32), (48, 32), (64, 64), (96, 160), (224, 224), (320, 240))
PHOTOGRAPHS = ((500, 375), (768, 1024), (1600, 1200))
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
DEADLINES_MS = (10, 50, 200, 1000, 5000)


@dataclass(frozen=True)
class Picture:
    """An encoded image and, where the folder states it, what it shows."""

    content: bytes
    media_type: str
    label: str | None = None


def synthetic() -> Image.Image:
    """Random colours, coarse or fine, so that images differ in how far through the network they go."""
    side = random.choice((2, 4, 8, 16))
    return Image.frombytes("RGB", (side, side), random.randbytes(side * side * 3))


def altered(image: Image.Image) -> Picture:
    """The image in a size and format drawn at random; the declared type may hide it, for the bytes decide."""
    buffer, size, image_format = io.BytesIO(), random.choice(SMALL), random.choice(FORMATS)
    if random.random() < 0.1:  # cameras write JPEG; a megapixel as BMP would only measure the network
        size, image_format = random.choice(PHOTOGRAPHS), "JPEG"
    image.resize(size).save(buffer, image_format)
    declared = random.choice((f"image/{image_format.lower()}", "application/octet-stream"))
    return Picture(buffer.getvalue(), declared)


def load_pictures(folder: str | None) -> tuple[Picture, ...]:
    """Fill the pool once, before the load: encoding while it runs would take the processor from the service.

    Raises:
        SystemExit: The folder holds no image.
    """
    if not folder:
        return tuple(altered(synthetic()) for _ in range(IMAGES_IN_POOL))
    root = Path(folder)
    paths = sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern) if path.is_file())
    if not paths:
        raise SystemExit(f"EXITRAMP_LOADTEST_IMAGES={folder}: no file and no CLASS/* there")
    pictures = []
    for path in random.sample(paths, min(len(paths), IMAGES_IN_POOL)):
        label = None if path.parent == root else path.parent.name
        pictures.append(Picture(path.read_bytes(), "application/octet-stream", label))
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


PICTURES = load_pictures(os.environ.get("EXITRAMP_LOADTEST_IMAGES"))
gevent.get_hub().loop.update_now()  # its clock stood still meanwhile: Locust would take that off the run time
KEY = os.environ.get("EXITRAMP_LOADTEST_KEY")
TALLY: Counter[tuple[str, bool]] = Counter()  # labelled images by kind of request and whether it was right


class Classifier(FastHttpUser):
    """A client that draws what it asks at random and believes nothing it is told."""

    host = "http://127.0.0.1:8000"
    wait_time = between(0.0, 0.1)

    def on_start(self) -> None:
        """Learn which models there are."""
        with self.client.get("/models") as response:
            if response.status_code != 200:
                raise StopUser
            self.models: list[dict[str, Any]] = json.loads(response.content)["models"]

    @task(8)
    def one_image(self) -> None:
        """One image with a budget, a limit, a deadline, any of them together, or none."""
        ask = self.ask(1)
        mean, limit = (random.choice((None, dear(ask))) for _ in range(2))
        deadline_ms = random.choice((None, None, None, random.choice(DEADLINES_MS)))
        named = (("budget", mean), ("limit", limit), ("deadline", deadline_ms))
        kind = " and ".join(name for name, value in named if value is not None) or "no budget"
        ask = replace(ask, mean=mean, limit=limit, deadline_ms=deadline_ms)
        self.classify(f"/classify, {kind}", ask, (random.choice(PICTURES),))

    @task(2)
    def many_images(self) -> None:
        """Several images in one request, mostly few, whose sum the budget bounds exactly."""
        count = min(2 + int(random.expovariate(0.15)), IMAGES_PER_REQUEST)
        pictures: list[Picture] = []
        for picture in random.choices(PICTURES, k=count):
            if sum(len(other.content) for other in (*pictures, picture)) <= BYTES_PER_REQUEST:
                pictures.append(picture)
        ask = self.ask(len(pictures))
        self.classify("/classify, many images", replace(ask, mean=dear(ask)), tuple(pictures))

    @task(2)
    def stream(self) -> None:
        """One image, each exit's prediction as soon as it is there."""
        ask = replace(self.ask(1), streamed=True)
        ask = replace(ask, limit=dear(ask)) if random.random() < 0.5 else replace(ask, mean=dear(ask))
        self.classify("/classify/stream", ask, (random.choice(PICTURES),))

    @task(2)
    def too_little(self) -> None:
        """Less than the cheapest exit costs, which has to be refused and not to be exceeded."""
        ask = self.ask(1)
        self.classify("/classify, too little", replace(ask, limit=ask.cheapest // 2), (PICTURES[0],))

    def ask(self, images: int) -> Ask:
        """A request of a model, a version of it, a task, or the default model."""
        model = random.choice(self.models)
        name = random.choice((None, model["task"], model["name"], f"{model['name']}@{model['version']}"))
        own = [model] if name else self.models[:1]
        if name == model["task"]:
            own = [other for other in self.models if other["task"] == name]
        return Ask(images, name, own)

    def classify(self, kind: str, ask: Ask, pictures: tuple[Picture, ...]) -> None:
        """Send one request and report every fault of its answer as a failure."""
        body: Any  # bytes; Locust's annotation admits only str
        body, content_type = pictures[0].content, pictures[0].media_type
        if len(pictures) > 1:
            body, content_type = multipart(pictures)
        headers = {**ask.headers(), "Content-Type": content_type} | ({"X-API-Key": KEY} if KEY else {})
        path = kind.partition(",")[0]
        with self.client.post(path, data=body, headers=headers, name=kind, catch_response=True) as response:
            try:
                text = (response.content or b"").decode()
                streamed = ask.streamed and response.status_code == 200
                answer = read_stream(text) if streamed else json.loads(text)
            except (ValueError, KeyError) as error:
                told = f"{error}: {text[:100]!r}" if response.status_code else response.error
                response.failure(f"status {response.status_code}, unreadable: {told}")
                return
            if response.status_code != 200:
                found = error_faults(ask, response.status_code, answer, response.headers)
                # What was to be expected is a success, in a line of its own: its time is not an answer's.
                response.request_meta["name"] = f"{kind}: {response.status_code}"
            else:
                found = faults(ask, answer, response.headers)
            if found:
                response.failure("; ".join(found[:5]))
                return
            response.success()
        for picture, prediction in zip(pictures, answer.get("predictions", ()), strict=False):
            if picture.label is not None:
                TALLY[kind, picture.label in (str(prediction["index"]), prediction["label"])] += 1


def dear(ask: Ask) -> int:
    """FLOPs of three digits, from just above the cheapest exit to above the dearest."""
    most = max(model["exits"][-1]["flops"] for model in ask.allowed)
    return int(float(f"{random.uniform(1.02 * ask.cheapest, 1.1 * most):.3g}"))


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # Locust has no types for it
def log_accuracy(**_: object) -> None:
    """State the share of labelled images that were classified rightly, for each kind of request."""
    for kind in sorted({kind for kind, _ in TALLY}):
        labelled = TALLY[kind, True] + TALLY[kind, False]
        logger.info("accuracy, %s: %.4f of %d labelled images", kind, TALLY[kind, True] / labelled, labelled)
