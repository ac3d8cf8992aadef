"""``exitramp profile``: where the microseconds of a request go on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from model_store.store import EMBEDDED
from service.cli.options import Failure, JsonOption, OnProgress, StoreOption, extra, progress, show_json
from service.headers import parse_number

if TYPE_CHECKING:
    from service.engine.loaded import LoadedModel
    from service.profiling.account import Observed
    from service.profiling.parts import Part
    from service.profiling.report import Profile
    from service.profiling.span_times import SpanTimes
    from service.settings import Settings

SAMPLES = Path(__file__).parent.parent / "playground" / "samples"
"""Images that are sent where nobody names others."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

MOST_FILES = 256
"""Images that are sent, in turn."""

STEPS = 5
"""Of the progress bar."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    budget: str
    files: list[bytes]
    photos: list[bytes]
    rounds: int
    seconds: float
    connections: int


def profile(
    model: Annotated[str, typer.Argument(help="Artifact, name or name@version.")] = "cifar10-fusion",
    budget: Annotated[str, typer.Option(help="X-FLOP-Budget; full depth is measured, too.")] = "25M",
    data: Annotated[
        Path | None,
        typer.Option(help="Images to send, as for bench; default: the playground's.", exists=True),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs to decode.", exists=True, file_okay=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Launches of each span and batch size.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each load on the service.")] = 4.0,
    connections: Annotated[int, typer.Option(min=2, max=1000, help="Of the closed loop.")] = 32,
    store: StoreOption = EMBEDDED,
    as_json: JsonOption = False,
) -> None:
    """Time each part alone, then the service under load, and print the budget of a request.

    The service runs in a process of its own, the client beside it on the same processor cores. Settings come
    from EXITRAMP_* environment variables, but for model, store and port.
    """
    with extra("loadtest"):
        import loadtest.generator  # noqa: F401
    try:
        parse_number(budget)
    except ValueError as error:
        raise Failure(f"--budget: {error}") from error
    pictured = [] if photos is None else _files(photos)
    asked = Asked(budget, _files(SAMPLES if data is None else data), pictured, rounds, seconds, connections)
    with progress() as show:
        measured = measure(model, store, asked, show)
    if as_json:
        show_json(measured.model_dump(mode="json"))
        return
    from service.cli.profile_tables import show_profile

    show_profile(measured)


def measure(name: str, store: Path, asked: Asked, show: OnProgress) -> Profile:
    """All parts, then the loads.

    Raises:
        StoreError: The model is missing or broken.
        UnaffordableError: The budget is below its cheapest exit.
        Failure: The service cannot be measured.
    """
    from service.loading import load_model, prepare
    from service.process import prepare_threads
    from service.profiling.account import throughput_of
    from service.profiling.report import Profile
    from service.settings import Settings

    prepare_threads()
    settings = Settings(model_store=store, models=(name,))
    show("loading", 0, STEPS)
    model = load_model(settings, name)
    prepare(model)
    show("launches", 1, STEPS)
    times = _launches(model, settings, asked)
    show("parts", 2, STEPS)
    parts = uvloop.run(_parts(model, settings, asked))
    idle, served = _served(model, settings, asked, show)
    around = next(run for run in idle if run.connections == asked.connections)
    cores = len(os.sched_getaffinity(0))
    throughput = {
        run.name: throughput_of(run, times, around, settings.max_batch, times.threads, cores)
        for run in served
        if run.connections == asked.connections
    }
    return Profile(times=times, parts=parts, idle=idle, served=served, throughput=throughput, cores=cores)


def _launches(model: LoadedModel, settings: Settings, asked: Asked) -> SpanTimes:
    from service.engine.executors import triangular_sizes
    from service.profiling.span_times import measure_spans

    mean = parse_number(asked.budget) if len(model.stages) > 1 else None
    plans = [model.plan(mean, None, True), model.plan(None, model.full_flops, True)]
    spans = list(dict.fromkeys(span for plan in plans for span in plan.spans()))
    return measure_spans(model, spans, triangular_sizes(settings.max_batch), asked.rounds)


async def _parts(model: LoadedModel, settings: Settings, asked: Asked) -> list[Part]:
    from service.profiling import parts
    from service.profiling.span_times import Launcher, random_images

    spec, rounds = model.manifest.input, 50 * asked.rounds
    images = random_images(model, settings.max_batch)
    raw = [(name.lower().encode(), value.encode()) for name, value in _headers(asked.budget).items()]
    hop, answer = await parts.engine_hop(model, images[0], rounds, settings.max_wait_s)
    idle = settings.model_copy(update={"executor": "null"})
    launcher, full = Launcher(model, images), model.plan(None, model.full_flops, True).spans()[0]
    try:
        gathered = [parts.gathering(launcher, full, size, asked.rounds) for size in (1, settings.max_batch)]
    finally:
        launcher.close()
    found = [parts.decoding(asked.files, spec, "decode, what is sent", rounds)]
    found += parts.small_formats([image for image in images[:16]], spec, rounds)
    if asked.photos:
        found.append(parts.decoding(asked.photos, spec, "decode a photograph", asked.rounds))
    found += [parts.header_checks(raw, rounds), hop, *gathered]
    found += [parts.reading(model, size, rounds) for size in (1, settings.max_batch)]
    found += [parts.json_body(model, answer, raw, rounds)]
    found += [await parts.application(idle, asked.files[0], raw, rounds)]
    return found


def _served(
    model: LoadedModel, settings: Settings, asked: Asked, show: OnProgress
) -> tuple[list[Observed], list[Observed]]:
    """The service without its network, then with it."""
    import aiohttp

    from loadtest.errors import LoadTestError
    from service.cli.profile_served import Load, observe_all

    def loads(headers: Mapping[str, Mapping[str, str]]) -> list[Load]:
        return [
            Load(name, asking, connections, asked.seconds)
            for name, asking in headers.items()
            for connections in (1, asked.connections)
        ]

    own = {"EXITRAMP_MODEL_STORE": str(settings.model_store), "EXITRAMP_MODELS": f'["{model.key}"]'}
    budget = f"budget {asked.budget}"
    kinds = {budget: _headers(asked.budget)} if len(model.stages) > 1 else {}
    kinds["full depth"] = {"X-FLOP-Limit": str(model.full_flops)}
    try:
        show("the service without its network", 3, STEPS)
        null = own | {"EXITRAMP_EXECUTOR": "null"}
        idle = uvloop.run(observe_all(null, model.name, asked.files, loads({"null": {}})))
        show("the service", 4, STEPS)
        return idle, uvloop.run(observe_all(own, model.name, asked.files, loads(kinds)))
    except (LoadTestError, aiohttp.ClientError) as error:
        raise Failure(str(error)) from error


def _headers(budget: str) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "X-FLOP-Budget": budget}


def _files(place: Path) -> list[bytes]:
    """Encoded images: those in the folder itself, or labelled ones as for ``exitramp bench``."""
    from loadtest.errors import LoadTestError
    from loadtest.images import read_pictures

    if own := [path for path in sorted(place.glob("*")) if path.suffix.lower() in SUFFIXES]:
        return [path.read_bytes() for path in own[:MOST_FILES]]
    try:
        return [picture.content for picture in read_pictures(place)[:MOST_FILES]]
    except LoadTestError as error:
        raise Failure(str(error)) from error
