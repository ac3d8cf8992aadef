"""Logs as JSON lines on standard error: event name plus fields, one per lifecycle change or failure."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

_PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "taskName", "color_message"}
"""Attributes that every record has; the rest was passed as ``extra``."""


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, event, then the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format ``record`` on one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(level: str) -> None:
    """Send all loggers' records of at least ``level`` to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # our own events tell the lifecycle
