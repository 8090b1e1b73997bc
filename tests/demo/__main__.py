"""`python -m tests.demo up|down`."""

from __future__ import annotations

import sys

from tests.demo import show, stage

NAME = "pointsman"


def main() -> int:
    match sys.argv[1:]:
        case ["up"]:
            show.run(NAME)
        case ["down"]:
            stage.down(NAME)
        case _:
            print("usage: python -m tests.demo up|down", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
