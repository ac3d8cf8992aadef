"""``POST /explain``: where in the image the evidence for its class is."""

from __future__ import annotations

import asyncio

import numpy as np
from fastapi import APIRouter, Request, Response

from model_store.explain import NoActivationMap, activation_map, overlay
from model_store.store import Store
from service.documents.classification import EXPLAIN
from service.engine.loaded import LoadedModel
from service.engine.ticket import Image
from service.errors import NotExplainable, Overloaded
from service.routes.answer import answer
from service.routes.bodies import one_image
from service.state import Service, service_of

MAX_DRAWING = 16
"""Explanations at a time. Each runs the network a second time, in eager torch, one after the other."""

router = APIRouter(tags=["classification"])


@router.post("/explain", **EXPLAIN)
async def explain(request: Request) -> Response:
    """Classify one image and draw over it where the evidence for its class is.

    Like ``/classify``, but the answer is a picture: what the network saw, enlarged, under the
    class-activation map of the exit that answered. Its headers name exit, FLOPs and the index of the class.
    """
    service = service_of(request)
    if service.drawing >= MAX_DRAWING:
        raise Overloaded(f"{service.drawing} explanations are waiting for their pictures", retry_after_s=1)
    service.drawing += 1
    try:
        return await _explained(request, service)
    finally:
        service.drawing -= 1


async def _explained(request: Request, service: Service) -> Response:
    answered = await answer(request, one_image)
    headers = answered.headers()
    prediction, image = answered.only, answered.decoded[0]
    assert isinstance(image, np.ndarray)
    store, loop = Store(service.settings.model_store), asyncio.get_running_loop()
    k, index = prediction.exit - 1, prediction.classes[0]
    picture = await loop.run_in_executor(service.drawers, _draw, store, answered.model, image, k, index)
    return Response(picture, media_type="image/png", headers={**headers, "X-Class-Index": str(index)})


def _draw(store: Store, model: LoadedModel, image: Image, k: int, index: int) -> bytes:
    net = model.reference_net(store)
    try:
        return overlay(image, activation_map(net, model.manifest.input, image, k, index))
    except NoActivationMap as error:
        raise NotExplainable(f"{model.name}: {error}") from error
