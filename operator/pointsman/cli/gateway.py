"""`pointsman gateway`: serves from a directory of manifests, from what it finds on this machine, or from a cluster.

`pointsman gateway init` writes the first manifests (`gateway_init.py`)."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pointsman.cli import discover as found
from pointsman.cli import logs
from pointsman.cli.discover import LOOPBACK
from pointsman.cli.gateway_init import init
from pointsman.cli.output import EXIT_UNREACHABLE, EXIT_USAGE, fail

if TYPE_CHECKING:
    from pointsman.gateway.main import Started

_log = logging.getLogger(__name__)


@click.group(invoke_without_command=True)
@click.option(
    "--manifests",
    type=click.Path(path_type=Path, file_okay=False),
    help="Serve the LLMBackends, ModelRoutes and Secrets in this directory's files; without it, those of the cluster.",
)
@found.options
@click.option("--host", help=f"Address to serve on; every one in a cluster, else {LOOPBACK}.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--admin-host",
    help=f"Address of the admin port; --host in a cluster or with a report token, else {LOOPBACK}.",
)
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), default=9090, show_default=True, help="0 takes a free one."
)
@click.option("-n", "--namespace", envvar="POINTSMAN_NAMESPACE", help="Namespace to serve; the pod's own by default.")
@click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Kubeconfig file, when not in a pod.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Keep here what a restart should not forget (no secret values): the last table in a cluster, else health.",
)
@click.option(
    "--report-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="POINTSMAN_REPORT_TOKEN_FILE",
    help="File with the bearer token that GET /v1/report wants (also $POINTSMAN_REPORT_TOKEN).",
)
@click.option("--name", envvar="POD_NAME", help="Name of this gateway in its report; the host's by default.")
@click.option(
    "--drain-delay",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between SIGTERM and the last answers, for load balancers to notice.",
)
@click.option("--access-log", is_flag=True, help="One JSON line a request on standard output.")
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(["json", "text"]), help="Text on a terminal, else JSON, by default.")
@click.pass_context
def gateway(
    ctx: click.Context,
    manifests: Path | None,
    discover: bool,
    discover_host: tuple[str, ...],
    discover_port: tuple[int, ...],
    host: str | None,
    port: int,
    admin_host: str | None,
    admin_port: int,
    namespace: str | None,
    kubeconfig: str | None,
    state_dir: Path | None,
    report_token_file: Path | None,
    name: str | None,
    drain_delay: float,
    access_log: bool,
    log_level: str,
    log_format: Literal["json", "text"] | None,
) -> None:
    """Serves model names and keeps them answering. Exit code 2 when the manifests are wrong."""
    if ctx.invoked_subcommand is not None:
        return
    from pointsman.gateway.main import Options, run  # after --help: it loads the whole gateway
    from pointsman.gateway.sources.manifests import ManifestError
    from pointsman.kube.connect import NoCluster

    form = logs.setup(log_level, log_format)
    token = _report_token(report_token_file)
    places = found.places(discover, discover_host, discover_port, own=(port, admin_port))
    if manifests is not None or places is not None:
        host = host or LOOPBACK
        admin_host = admin_host or (host if token else LOOPBACK)
    else:
        admin_host = admin_host or host
        if token is None:
            _log.warning("no report token is set: the report is closed to everybody")
            token = secrets.token_urlsafe(32)
    options = Options(
        name=name or socket.gethostname(),
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        manifests=manifests,
        discover=places,
        kubeconfig=kubeconfig,
        namespace=namespace,
        state_dir=state_dir,
        report_token=token,
        drain_delay=drain_delay,
        access_log=access_log,
    )
    try:
        run(options, _say_started if form == "text" else _log_started)
    except ManifestError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        fail(f"{count} problem{'s' if count > 1 else ''} in {manifests}: nothing is served", EXIT_USAGE)
    except NoCluster as error:
        fail(f"{error}; to serve without a cluster give --manifests DIR or --discover", EXIT_UNREACHABLE)
    except OSError as error:
        fail(f"cannot listen: {error.strerror or error}; choose with --port and --admin-port", 1)


gateway.add_command(init)


def _say_started(started: Started) -> None:
    click.echo(_sentence(started), err=True)


def _log_started(started: Started) -> None:
    _log.info(_sentence(started))


def _sentence(started: Started) -> str:
    where = f"http://{_shown(started.host)}:{started.port}"
    admin = f"http://{_shown(started.admin_host)}:{started.admin_port}"
    held = f"{_count(started.backends, 'backend')}, {_count(started.routes, 'route')}"
    return f"serving on {where} (admin on {admin}): {held}"


def _shown(host: str | None) -> str:
    return "0.0.0.0" if host is None else f"[{host}]" if ":" in host else host


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _report_token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("POINTSMAN_REPORT_TOKEN") or None
    try:
        return file.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"cannot read the report token from {file}") from None
