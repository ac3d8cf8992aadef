"""The short way to the routes that classify: what is called, and what is left to the router."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from service.direct import Direct
from service.errors import BudgetTooSmall, ServiceError


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
    return PlainTextResponse(error.code, error.status)


async def ask(path: str, body: str = "", method: str = "POST") -> tuple[str, int, Any]:
    """Text and status of the answer, and the route that the metrics see."""
    app = Direct(router, {"/classify": endpoint}, {ServiceError: failed})
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[1]["body"].decode(), sent[0]["status"], getattr(scope.get("route"), "path", None)


async def test_an_endpoint_that_it_knows_is_called_and_its_errors_are_answers() -> None:
    assert await ask("/classify", "ship") == ("from the endpoint: ship", 200, "/classify")
    assert await ask("/classify", "dear") == ("budget_too_small", 422, "/classify")


async def test_a_bug_of_ours_is_left_to_others() -> None:
    with pytest.raises(ZeroDivisionError):
        await ask("/classify", "bug")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/classify"), ("POST", "/classify/"), ("POST", "/v2/repository/index")]
)
async def test_all_else_goes_to_the_router(method: str, path: str) -> None:
    assert await ask(path, method=method) == ("from the router", 200, None)
