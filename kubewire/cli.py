"""The command line. Each command lives in a module of its own, imported only when it is the one that runs."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

_COMMANDS: Final = {
    "attach": ("kubewire.attach:attach_command", "Attach to the main process of a container."),
    "cp": ("kubewire.cp:cp_command", "Copy files into, out of and between containers, verified."),
    "completion": ("kubewire.completion:completion_command", "Print the completion script of a shell."),
    "exec": ("kubewire.exec:exec_command", "Run a command in a container."),
    "kubelet": ("kubewire.kubelet:kubelet_command", "Ask a kubelet: pods, health, statistics, metrics, logs..."),
    "route": ("kubewire.route:route_command", "Report which way to a pod would be taken, and why."),
    "trust": ("kubewire.trust:trust_command", "Pin the certificate of a kubelet that signs its own."),
    "logs": ("kubewire.logs:logs_command", "Print what containers wrote."),
    "fake": ("kubewire.fake:fake", "Serve a fake kubelet on this machine, for tests and trials."),
    "port-forward": ("kubewire.portforward:port_forward_command", "Forward ports of a pod to this machine."),
}
"""Name: where the command is, and its line in the help. ``kubewire exec`` must not pay for importing the others."""


class _LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from kubewire import __version__

        click.echo(f"kubewire {__version__}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Version.")
def group() -> None:
    """The streaming protocols of Kubernetes, with nothing between you and the wire.

    Exit codes: the remote command's own; 255 when it could not be learned (one line on stderr says why); 2 for wrong
    usage.
    """


def main() -> None:
    """The console script."""
    group.main(prog_name="kubewire", args=sys.argv[1:])
