"""How a pull ended, as the durable result that outlives its pod: small JSON in the container's termination message.

The operator reads it there (`status.containerStatuses[].state.terminated.message`, at most 4 KiB) when nobody listened
to the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pointsman.domain.figures import Figures
from pointsman.domain.report import PullProgress
from pointsman.models.errors import PullError

if TYPE_CHECKING:
    from pointsman.models.pull import Pulled  # the operator reads outcomes, and downloads nothing

DEFAULT_TERMINATION_LOG = Path("/dev/termination-log")
_MAX_MESSAGE = 1024


class PullOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of one run. `state`: Pulled or Failed."""

    state: str
    exit_code: int = 0
    permanent: bool = False
    """True when trying again alone cannot help."""
    digest: str = ""
    """The model's, `sha256:…`."""
    total_bytes: int = 0
    fetched_bytes: int = 0
    """What this run took from the network."""
    short_name: str = ""
    served_name: str = ""
    """What to send to Ollama for exactly this digest."""
    path: str = ""
    """What a server that reads files loads, relative to the store."""
    figures: Figures | None = None
    """What decides the model's memory; None where it is not understood."""
    formats: tuple[str, ...] | None = None
    """What files are of it (`Format`); None for a model in Ollama's store."""
    reason: str = ""
    """On Failed: a `PullReason`."""
    message: str = ""

    def progress(self, last: PullProgress) -> PullProgress:
        """The last report: `last`, with this end."""
        return msgspec.structs.replace(
            last, state=self.state, bytes_per_second=0, eta_seconds=None, reason=self.reason, message=self.message
        )


def succeeded(pulled: Pulled, figures: Figures | None = None, formats: tuple[str, ...] | None = None) -> PullOutcome:
    """The outcome of a pull that made it."""
    return PullOutcome(
        state="Pulled",
        digest=pulled.digest,
        total_bytes=pulled.total_bytes,
        fetched_bytes=pulled.fetched_bytes,
        short_name=pulled.short_name,
        served_name=pulled.served_name,
        path=pulled.path,
        figures=figures,
        formats=formats,
    )


def failed(error: PullError, last: PullProgress, exit_code: int | None = None) -> PullOutcome:
    """The outcome of a pull that did not; `exit_code` only when a signal decides it."""
    return PullOutcome(
        state="Failed",
        exit_code=error.reason.exit_code if exit_code is None else exit_code,
        permanent=error.reason.permanent,
        digest=last.digest,
        total_bytes=last.total_bytes,
        reason=error.reason,
        message=error.message[:_MAX_MESSAGE],
    )


def encode_outcome(outcome: PullOutcome) -> bytes:
    """JSON of less than 4 KiB."""
    return msgspec.json.encode(outcome)


def decode_outcome(text: bytes | str) -> PullOutcome:
    """Raises `msgspec.DecodeError` when `text` is not an outcome."""
    return msgspec.json.decode(text, type=PullOutcome)


def write_outcome(outcome: PullOutcome, path: Path | None) -> bool:
    """Writes the termination message: to `path`, else to the usual place if there is one. False when neither can be."""
    target = path or DEFAULT_TERMINATION_LOG
    if path is None and not target.is_file():
        return False
    try:
        target.write_bytes(encode_outcome(outcome))
    except OSError:
        return False  # the exit code still says it
    return True
