"""The short way to the routes that classify: what is refused, called, or left to the router."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from service.direct import Direct
from service.errors import BudgetTooSmall, Overloaded, ServiceError
from service.state import Service


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("from the router")(scope, receive, send)


async def endpoint(request: Request) -> Response:
    body = (await request.body()).decode()
    if body == "dear":
        raise BudgetTooSmall("12 are the least")
    if body == "bug":
        raise ZeroDivisionError
    return PlainTextResponse(f"from the endpoint: {body}")


async def failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return PlainTextResponse(error.code, error.status, error.headers)


async def ask(path: str, body: str = "", method: str = "POST", full: bool = False) -> tuple[str, int, Any]:
    """Text and status of the answer, and the route that the metrics see."""
    refusal = Overloaded("all 4 permits are taken", 3) if full else None
    service = cast(Service, SimpleNamespace(refusal=lambda: refusal))
    app = Direct(router, service, {"/classify": endpoint}, {ServiceError: failed})
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        assert not full, "a refused body is not waited for"
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[1]["body"].decode(), sent[0]["status"], getattr(scope.get("route"), "path", None)


async def test_an_endpoint_that_it_knows_is_called_and_its_errors_are_answers() -> None:
    assert await ask("/classify", "ship") == ("from the endpoint: ship", 200, "/classify")
    assert await ask("/classify", "dear") == ("budget_too_small", 422, "/classify")


async def test_a_bug_of_ours_is_left_to_the_server() -> None:
    with pytest.raises(ZeroDivisionError):
        await ask("/classify", "bug")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/classify", "/classify"),
        ("/v2/models/a/infer", "/v2/models/{name}/infer"),
        ("/v2/models/a/versions/2/infer", "/v2/models/{name}/versions/{version}/infer"),
    ],
)
async def test_without_room_whoever_needs_some_is_refused_before_anything_is_read(
    path: str, route: str
) -> None:
    assert await ask(path, full=True) == ("overloaded", 503, route)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/classify"), ("POST", "/v2/repository/index"), ("POST", "/infer")]
)
async def test_all_else_goes_to_the_router_with_or_without_room(method: str, path: str) -> None:
    for full in (False, True):
        assert await ask(path, method=method, full=full) == ("from the router", 200, None)


async def test_with_room_inference_goes_to_the_router() -> None:
    text, status, _ = await ask("/v2/models/a/infer")
    assert (text, status) == ("from the router", 200)
