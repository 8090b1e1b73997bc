"""`pointsman pull`: a model into a volume. The command line only; the work is `models/main.py`."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import click
import uvloop

from pointsman.api.sources.pvc import CLAIMS_PATH
from pointsman.cli.pull_display import make_display
from pointsman.models.main import PullOptions, run_pull
from pointsman.models.pull import DEFAULT_PARALLEL, Refresh

_SIZE = re.compile(r"(\d+)(|Ki|Mi|Gi)")
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_MIN_PART = 64 << 10


class _Size(click.ParamType[int]):
    """Bytes, written as a Kubernetes quantity with a binary suffix."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value))
        size = int(found[1]) * _UNITS[found[2]] if found else 0
        if size < _MIN_PART:
            self.fail(f"{value!r} is not a size of at least 64Ki, such as 64Mi", param, ctx)
        return size


_FILE = click.Path(path_type=Path)


@click.command("pull", short_help="Pulls a model into a store.")
@click.argument("source")
@click.option("--store", type=_FILE, required=True, help="Folder of the store (what OLLAMA_MODELS names).")
@click.option("--digest", help="Pin: the model must have this digest (sha256:…).")
@click.option(
    "--insecure", is_flag=True, envvar="POINTSMAN_PULL_INSECURE", help="Plain HTTP, as ollama+http:// asks for."
)
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=DEFAULT_PARALLEL, show_default=True, help="Parts at once."
)
@click.option("--part-size", type=_Size(), default="64Mi", show_default=True, help="Size of a part; a kill costs less.")
@click.option("--report-port", type=click.IntRange(0, 65535), default=0, help="Serve the report here; 0: do not.")
@click.option("--report-host", help="Address to serve the report on; all by default.")
@click.option("--termination-log", type=_FILE, help="File for the outcome; /dev/termination-log where there is one.")
@click.option("--username", envvar="POINTSMAN_PULL_USERNAME", help="User of the source.")
@click.option("--password-file", type=_FILE, help="File with the user's password.")
@click.option("--token-file", type=_FILE, help="File with a ready bearer token, instead of user and password.")
@click.option(
    "--credentials",
    "secret_folder",
    type=_FILE,
    envvar="POINTSMAN_PULL_CREDENTIALS",
    help="Folder with a mounted Secret: a file for each key.",
)
@click.option(
    "--refresh",
    type=click.Choice([r.value for r in Refresh]),
    default=Refresh.ON_CHANGE.value,
    show_default=True,
    help="Is the source asked when the model is there already?",
)
@click.option(
    "--claims", type=_FILE, default=CLAIMS_PATH, show_default=True, help="Where the claims of pvc:// are mounted."
)
@click.option("--verify", is_flag=True, help="Hash again what is there, and fetch anew what is damaged.")
def pull(
    source: str,
    store: Path,
    digest: str | None,
    insecure: bool,
    parallel: int,
    part_size: int,
    report_port: int,
    report_host: str | None,
    termination_log: Path | None,
    username: str | None,
    password_file: Path | None,
    token_file: Path | None,
    secret_folder: Path | None,
    refresh: str,
    claims: Path,
    verify: bool,
) -> None:
    """Pull a model from SOURCE into a store.

    \b
    ollama://[host[:port]/][namespace/]name[:tag]   for Ollama
    hf://org/repo[@revision][/file]                 a repository of a Hugging Face Hub, or one file of it
    oci://registry/repository[:tag]                 an artefact of an OCI registry
    s3://bucket/folder, s3://bucket/model.gguf      a prefix of a bucket, or one key
    https://host/model.gguf                         a file of a web server
    pvc://claim/path                                what is in a volume already

    The report needs a token, from POINTSMAN_REPORT_TOKEN or the file that POINTSMAN_REPORT_TOKEN_FILE names.

    Exit codes: 0 pulled; 20-29 needs a change by somebody; 30-39 may work later; 130, 143 stopped, goes on next time.
    """
    options = PullOptions(
        source=source,
        store=store,
        digest=digest,
        insecure=insecure,
        parallel=parallel,
        part_size=part_size,
        username=username,
        password_file=password_file,
        token_file=token_file,
        secret_folder=secret_folder,
        claims=claims,
        refresh=Refresh(refresh),
        verify=verify,
        report_host=report_host,
        report_port=report_port,
        report_token=_report_token(),
        termination_log=termination_log,
    )
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)  # a byte costs half of what it does in asyncio's own
    with make_display(source, sys.stdout) as show, runner:
        outcome = runner.run(run_pull(options, show))
    raise SystemExit(outcome.exit_code)


def _report_token() -> str:
    token = os.environ.get("POINTSMAN_REPORT_TOKEN", "")
    path = os.environ.get("POINTSMAN_REPORT_TOKEN_FILE", "")
    if token or not path:
        return token
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise click.UsageError("cannot read the file that POINTSMAN_REPORT_TOKEN_FILE names") from None
