"""What is inherited by connections from the sockets that listen for them."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

import pytest

from service import http_server
from service.settings import Settings


@pytest.mark.parametrize("beside", [False, True], ids=["one process", "one of several"])
def test_who_takes_nothing_of_an_answer_is_cut_off(beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "UNREAD_S", 1)
    listener = http_server.listen_beside(("127.0.0.1", 0)) if beside else http_server.listen(Settings(port=0))
    with listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            started_s = time.monotonic()
            with suppress(BlockingIOError):
                while True:
                    connection.send(b"x" * 2**20)
            poll = select.poll()
            poll.register(connection, 0)  # errors alone
            assert poll.poll(10_000), "the connection is held for ever"
            assert 0.5 < time.monotonic() - started_s < 8
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 110, "timed out"
