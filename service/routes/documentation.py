"""Interactive documentation of the interface; its scripts come from here and ask nobody else."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

SCRIPTS: Final = "static-offline-docs"
"""Where the scripts are; like all addresses in the pages relative, so that they work behind a path prefix."""

FOLDER: Final = Path(fastapi_offline.__file__).parent / "static"

POLICY: Final = (
    "default-src 'none'; script-src 'self' {inline}; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page may do. Both libraries make styles as they run; of scripts in the page only its own run."""


def document(app: FastAPI) -> None:
    """Add ``/docs`` and ``/redoc`` to ``app``."""
    schema, icon = (app.openapi_url or "").lstrip("/"), f"{SCRIPTS}/favicon.png"
    swagger = get_swagger_ui_html(
        openapi_url=schema,
        title=app.title,
        swagger_js_url=f"{SCRIPTS}/swagger-ui-bundle.js",
        swagger_css_url=f"{SCRIPTS}/swagger-ui.css",
        swagger_favicon_url=icon,
    )
    redoc = get_redoc_html(
        openapi_url=schema,
        title=app.title,
        redoc_js_url=f"{SCRIPTS}/redoc.standalone.js",
        redoc_favicon_url=icon,
        with_google_fonts=False,
    )
    router = APIRouter(include_in_schema=False)
    for path, page in (("/docs", swagger), ("/redoc", redoc)):
        scripts = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
        digests = (b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
        inline = " ".join(f"'sha256-{digest}'" for digest in digests)
        page.headers["Content-Security-Policy"] = POLICY.format(inline=inline)
        router.add_api_route(path, partial(_answer, page))
    app.include_router(router)
    app.mount(f"/{SCRIPTS}", StaticFiles(directory=FOLDER))


async def _answer(page: HTMLResponse) -> HTMLResponse:
    return page
