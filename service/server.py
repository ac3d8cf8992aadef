"""The process: uvicorn around the application."""

from __future__ import annotations

from service.app import create_app
from service.http_server import CannotListen, Server, announce, configure, listen, listen_for_metrics
from service.process import end_at_once, prepare_process
from service.settings import Settings


def serve(settings: Settings) -> str | None:
    """Serve from this process until a signal ends it.

    Args:
        settings: All settings; ``http_workers`` is for ``service.front``.

    Returns:
        ``None`` after a clean end, else one line that says why the server could not go on.
    """
    prepare_process(settings.log_level)
    failure: list[str] = []

    def on_failure(error: Exception) -> None:
        failure.append(str(error) or type(error).__name__)
        server.end()

    app = create_app(settings, on_failure)
    app.state.service.on_lost = end_at_once
    server = Server(configure(app, settings), app.state.service.drain)
    try:
        listeners = [listen(settings), *listen_for_metrics(settings)]
    except CannotListen as error:
        return str(error)
    with server.capture_signals():  # before anybody can know that there is something to end
        announce(listeners[0].getsockname()[:2], settings)
        server.run(sockets=listeners)
    return failure[0] if failure else None
