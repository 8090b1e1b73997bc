"""``python -m tests.cluster``: begin, look at and end the clusters that tests and the demo use."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from tests.cluster import debian, images, processes, programs, providers
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Profile


def main(arguments: list[str] | None = None) -> int:
    """Run one command; failures are one message and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (RuntimeError, ValueError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="A real Kubernetes for tests and demo."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("programs", help="build what the clusters run; prints where each program is")
    command.add_argument("names", nargs="*", help="default: what every tier but the longest needs")
    command.add_argument(
        "--bench", action="store_true", help="also install the servers that the benchmarks compare with"
    )
    command.set_defaults(run=_programs)

    command = _with_cluster(commands.add_parser("up", help="begin a cluster, or take the one that is up"))
    command.set_defaults(run=_up)
    command = _with_cluster(commands.add_parser("down", help="end a cluster and remove what it left"))
    command.add_argument("--all", action="store_true", help="every cluster made of processes")
    command.set_defaults(run=_down)
    command = commands.add_parser("status", help="list the clusters made of processes")
    command.set_defaults(run=_status)
    command = _with_cluster(commands.add_parser("env", help='shell assignments: eval "$(python -m tests.cluster env)"'))
    command.set_defaults(run=_env)
    command = _with_cluster(commands.add_parser("kubeconfig", help="print the kubeconfig's path"))
    command.set_defaults(run=_kubeconfig)
    command = commands.add_parser("build-image", help="build test images; prints the archive of each")
    command.add_argument("tags", nargs="*", help="default: all")
    command.set_defaults(run=_build_image)
    command = _with_cluster(commands.add_parser("load-image", help="give images to a cluster, built first if need be"))
    command.add_argument("images", nargs="*", help="tags or archives; default: all that can be built")
    command.set_defaults(run=_load_image)
    return parser


def _with_cluster(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--profile", choices=sorted(providers.DEFAULT_NAMES), default="full", help="default: full")
    parser.add_argument("--name", help="default: one name a profile")
    return parser


def _name(options: argparse.Namespace) -> str:
    profile: Profile = options.profile
    return options.name or providers.DEFAULT_NAMES[profile]


def _running(options: argparse.Namespace) -> Cluster:
    found = providers.find(_name(options), options.profile)
    if not found:
        raise RuntimeError(
            f"cluster {_name(options)} is not up; begin it: python -m tests.cluster up --name {_name(options)}"
        )
    return found


def _programs(options: argparse.Namespace) -> None:
    unknown = sorted(set(options.names) - set(programs.recipes()))
    if unknown:
        raise ValueError(f"no recipe for {', '.join(unknown)}; there are: {', '.join(programs.recipes())}")
    if options.bench:
        debian.ensure(debian.BENCH)
    for path in programs.ensure(options.names or programs.USUAL).values():
        print(path)


def _up(options: argparse.Namespace) -> None:
    started = time.monotonic()
    made = providers.up(_name(options), options.profile)
    print(
        f"cluster {made.name} ({made.profile}, {made.provider}) is up after {time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )
    print(f"export KUBECONFIG={made.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    started = time.monotonic()
    for name in processes.names() if options.all else [_name(options)]:
        providers.down(name)
        print(f"cluster {name} is gone after {time.monotonic() - started:.1f} s", file=sys.stderr)


def _status(options: argparse.Namespace) -> None:
    for name in processes.names():
        running = processes.find(name)
        if not running:
            print(f"{name}: ended or half begun; `down --name {name}` removes the rest")
            continue
        silent = processes.silent_daemons(running)
        state = f"daemons ended: {', '.join(silent)}" if silent else "up"
        print(f"{name}: {state}, {running.profile}, {running.api}, {running.kubeconfig}, logs in {running.logs}")


def _env(options: argparse.Namespace) -> None:
    for key, value in _running(options).environment().items():
        print(f"export {key}={shlex.quote(value)}")


def _kubeconfig(options: argparse.Namespace) -> None:
    print(_running(options).kubeconfig)


def _build_image(options: argparse.Namespace) -> None:
    for tag in options.tags or images.TAGS:
        print(images.archive_of(tag))


def _load_image(options: argparse.Namespace) -> None:
    running = _running(options)
    for image in options.images or images.TAGS:
        started = time.monotonic()
        running.load_image(Path(image) if Path(image).is_file() else image)
        print(f"{image} is in cluster {running.name} after {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
