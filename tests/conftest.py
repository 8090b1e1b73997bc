"""Property tests take as long as they take: a busy machine is no failure. They draw the same each time, so that a run
says something about the change."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from tests.support import draws

settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=not draws.ANEW
)
settings.load_profile("patient")
