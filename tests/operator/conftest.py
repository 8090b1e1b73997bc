"""The tier's cluster: a real API server with real controllers, and no node."""

from tests.cluster.fixtures import control_plane

__all__ = ["control_plane"]
