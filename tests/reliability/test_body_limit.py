"""The limit on bodies is exact to the byte on every route that takes images, however they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving

LIMIT_BYTES = 10 * 2**20
OVER = {-1: 200, 0: 200, 1: 413}
"""Bytes beyond the limit, and the status they are answered with."""

FORM_HEAD = b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FORM_TAIL = b"\r\n--X--\r\n"
PIECE_BYTES = 2**16

ROUTES: dict[str, dict[str, str]] = {
    "/classify": {},
    "/classify/stream": {},
    "/explain": {"X-FLOP-Limit": "100M"},
    "/v2/models/small/infer": {"Inference-Header-Content-Length": "0"},  # an image file and nothing else
}
"""With the headers that a plain image needs there."""


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two HTTP processes"])
def server(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[Server]:
    store = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving({**store, "HTTP_WORKERS": request.param}) as running:
        yield running


def sent(server: Server, path: str, way: str, image: bytes, size: int) -> httpx.Response:
    """A body of ``size`` bytes with ``image`` at its beginning; what follows the image is not looked at."""
    headers = dict(ROUTES[path])
    if way == "multipart":
        headers["Content-Type"] = "multipart/form-data; boundary=X"
        body = FORM_HEAD + image.ljust(size - len(FORM_HEAD) - len(FORM_TAIL), b"\0") + FORM_TAIL
    else:
        body = image.ljust(size, b"\0")
    assert len(body) == size
    pieces = (body[start : start + PIECE_BYTES] for start in range(0, size, PIECE_BYTES))
    return server.client.post(path, content=body if way == "length" else pieces, headers=headers)


def test_the_body_limit_is_exact(
    server: Server, png: Callable[[int], bytes], request: pytest.FixtureRequest, figure: Figure
) -> None:
    ways = {path: ["length", "chunked"] + ["multipart"] * ("/v2" not in path) for path in ROUTES}
    cases = [(path, way, over) for path in ROUTES for way in ways[path] for over in OVER]
    answers = {case: sent(server, case[0], case[1], png(0), LIMIT_BYTES + case[2]) for case in cases}
    exact = [case for case, answer in answers.items() if answer.status_code == OVER[case[2]]]
    figure(3, f"{len(exact)} of {len(cases)} exact on {len(ROUTES)} routes, {request.node.callspec.id}")
    wrong = {case: answer.text for case, answer in answers.items() if case not in exact}
    assert not wrong
    for (path, _, over), answer in answers.items():
        if over > 0:
            assert answer.json()["code"] == "too_large" and str(LIMIT_BYTES) in answer.text, path
    assert server.client.get("/readyz").status_code == 200
