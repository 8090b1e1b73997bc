"""The programs of the test cluster, built from pinned sources and kept outside the checkout."""

from tests.cluster.programs.build import BuildFailed, ensure, path_of
from tests.cluster.programs.recipes import CONTROL_PLANE, ENGINES, NODE, USUAL, recipes

__all__ = ["CONTROL_PLANE", "ENGINES", "NODE", "USUAL", "BuildFailed", "ensure", "path_of", "recipes"]
