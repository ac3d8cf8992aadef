"""The playground: a page that shows in a browser what budgets do. Its files are read once, at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from service.errors import NotFound
from service.settings import Settings

PAGE: Final = "index.html"

LIMITS: Final = "limits.json"
"""The one file that is no file: what the page has to know of the settings."""

HEADERS: Final = {
    "Cache-Control": "no-cache",  # ask each time, be answered 304: a new version is seen at once
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of every file. The page loads nothing from elsewhere, and what users send can make it run nothing."""

TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""Content types by suffix; nothing else is served. ``mimetypes`` asks the system's tables, which differ."""


class Asset:
    """One file as it is answered."""

    def __init__(self, name: str, content: bytes) -> None:
        """Give ``content`` the type of ``name``, and a tag that changes with it."""
        self._content = content
        self._type = TYPES[PurePosixPath(name).suffix]
        self._headers = {**HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    def answer(self, headers: Headers) -> Response:
        """The file, or 304 for who has it already."""
        known = {tag.strip().removeprefix("W/") for tag in headers.get("If-None-Match", "").split(",")}
        if self._headers["ETag"] in known:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers, media_type=self._type)


def playground(settings: Settings) -> APIRouter:
    """``GET /`` and the files of the page, which it finds relative to itself, below any path prefix."""
    folder = files("service") / "playground"
    assets = {name: Asset(name, file.read_bytes()) for name, file in _walk(folder)}
    assets[LIMITS] = Asset(LIMITS, orjson.dumps({"max_body_bytes": settings.max_body_bytes}))
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        """The page itself."""
        return assets[PAGE].answer(request.headers)

    @router.api_route("/playground/{name:path}", methods=["GET", "HEAD"])
    async def asset(request: Request, name: str) -> Response:
        """What the page consists of."""
        if name not in assets:
            raise NotFound(f"nothing is at {request.url.path}")
        return assets[name].answer(request.headers)

    return router


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """The files to serve below ``folder``, by their path relative to it."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif PurePosixPath(entry.name).suffix in TYPES:
            yield prefix + entry.name, entry
