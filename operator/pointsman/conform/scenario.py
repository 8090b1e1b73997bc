"""What a scenario is: how the two backends behave, what is asked, and what we consider right.

Decided here: the closed set of right outcomes, each with its sentence. Not here: the scenarios (`catalogue.py` and the
files it joins), and how an outcome is judged (`judge.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from pointsman.simulator.behaviour import Behaviour, says


class Right(Enum):
    """What must be seen; the values are sentences for people."""

    FALLBACK = "the second backend's answer, whole and once"
    FIRST = "the first backend's answer, whole and once; the second is not asked"
    EITHER = "one whole answer, once, from either backend"
    BREAK = "what had come, then an error event, no [DONE]; never an answer spliced on"
    CALLER = "the first backend's own error goes to the caller; the second is not asked"
    REFUSE = "an error that says whether to come back, in OpenAI's form, naming no address"
    EMPTY = "the empty answer as it is: the model may mean it"
    HONEST = "one whole answer, once, from either backend; or an error in OpenAI's form"
    ENDS = "an end in time, and no half answer that passes for a whole one"
    LEAVE = "the backend's connection is closed within a second; the second backend is not asked"


class Down(StrEnum):
    """Which backends refuse connections."""

    NONE = ""
    FIRST = "first"
    BOTH = "both"


@dataclass(frozen=True)
class Scenario:
    """`first` and `second` are what each backend does at its n-th attempt of this scenario, the last one for ever."""

    name: str
    """Unique, such as `500 (stream)`."""
    group: str
    right: Right
    why: str
    """One line: where this happens, or what it costs to get it wrong."""
    first: tuple[Behaviour, ...]
    second: tuple[Behaviour, ...] = (says,)
    stream: bool = False
    down: Down = Down.NONE
    status: tuple[int, ...] = (200,)
    """Any of these is right."""
    requests: int = 1
    """Asked one after the other; each must turn out right."""
    silent: int = 0
    """How many backends are silent until the gateway's own timeout."""
    second_breaks: bool = False
    """It is the second backend's stream that breaks off."""
    returns: float | None = None
    """Seconds after which the first backend must be asked again, and before which it must not be."""
    lingers: bool = False
    """A gateway may rightly leave a backend alone for long after this."""
    unharmed: bool = False
    """Afterwards the first backend must serve the next request at once: what failed was no fault of its own."""
    prompt_bytes: int = 0
    """The prompt is so long, where it matters."""
    expects: bool = False
    """The client waits for `100 Continue` before it sends its body."""
    leave_after: str | None = None
    """The client goes away as soon as this text came (empty: as soon as the first backend was asked)."""

    @property
    def slug(self) -> str:
        """For `--only` and file formats: `500-stream`."""
        words = "".join(c if c.isalnum() else " " for c in self.name.lower()).split()
        return "-".join(words)
