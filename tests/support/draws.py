"""Whether tests with random draws repeat those of every run, or draw anew (`POINTSMAN_DRAW=new`, `make fuzz`)."""

from __future__ import annotations

import os
import random

ANEW = os.environ.get("POINTSMAN_DRAW") == "new"


def seed(usual: int) -> int:
    """What a test with random draws begins with."""
    return random.randrange(1 << 32) if ANEW else usual
