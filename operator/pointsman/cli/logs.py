"""What a long-running command logs: one line an event, JSON for machines or text for people.

Fields of a JSON line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, whatever the call gave as `extra`, and
`error` with a traceback when there was one.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["json", "text"]
LEVELS = ("debug", "info", "warning", "error")

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(level: str = "info", form: Format | None = None) -> Format:
    """Logs to standard error from now on, in the returned form. Without `form`: text on a terminal, else JSON."""
    chosen: Format = form or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if chosen == "json" else _Text("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in ("asyncio", "httpx", "httpcore", "aiohttp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return chosen


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _PLAIN}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        lines = [super().format(record)]
        for key, value in _extras(record).items():
            if isinstance(value, list | tuple):
                lines += [f"  {item}" for item in value]
            else:
                lines.append(f"  {key}: {value}")
        return "\n".join(lines)
