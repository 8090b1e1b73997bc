"""The `pointsman` command: the list of its commands, each loaded only when it is called."""

from __future__ import annotations

import importlib

import click

from pointsman import __version__

_COMMANDS = {
    "status": "pointsman.cli.status",
    "models": "pointsman.cli.models",
    "test": "pointsman.cli.test",
    "explain": "pointsman.cli.explain",
    "drill": "pointsman.cli.drill",
    "conform": "pointsman.cli.conform",
    "gateway": "pointsman.cli.gateway",
    "operator": "pointsman.cli.operator",
    "pull": "pointsman.cli.pull",
    "wait-model": "pointsman.cli.wait_model",
    "link-image": "pointsman.cli.link_image",
    "prune": "pointsman.cli.prune",
    "rm": "pointsman.cli.rm",
}


class LazyGroup(click.Group):
    """A group whose commands are modules with a function of the command's name (`-` is `_`): `pointsman pull` starts in
    the time that pulls need, not in the time that all commands together need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pointsman")
def main() -> None:
    """Pointsman keeps one model name answering."""
