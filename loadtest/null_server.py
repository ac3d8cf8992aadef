"""A service that does nothing, in a process of its own: against it the generator measures itself.

It reads each body and gives always the same answer, one that the real service gave, with its headers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvloop
from aiohttp import web

HOST = "127.0.0.1"


@contextmanager
def null_server(body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    """Serve ``body`` and ``headers`` until the end of the block; gives the URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.null_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C is for the one who measures, and ends this one in turn
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps({"body": body.decode(), "headers": dict(headers)}) + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def serve(body: bytes, headers: Mapping[str, str]) -> None:
    """Answer until standard input ends; prints the URL first."""

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=body, headers=headers)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    _, port = runner.addresses[0]
    sys.stdout.write(f"http://{HOST}:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # its end: whoever started this is gone, however that came


def main() -> None:
    """What is to be answered comes on standard input: one line of JSON."""
    told = json.loads(sys.stdin.readline())
    uvloop.run(serve(told["body"].encode(), told["headers"]))


if __name__ == "__main__":
    main()
