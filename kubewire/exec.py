"""``kubewire exec``: run a command in a container, with its own streams and its own exit code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import Connection, connection_options, take_connection

if TYPE_CHECKING:
    from kubeletclient import Process

UNKNOWN: Final = 255
"""The exit code when the remote one could not be learned, as ssh has it."""


@click.command("exec", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": True})
@click.argument("pod", metavar="[NS/]POD", required=False)
@click.argument("command", nargs=-1, metavar="-- COMMAND...", type=click.UNPROCESSED)
@click.option("-n", "--namespace", metavar="NS", help="Namespace of the pod.  [default: default]")
@click.option("-c", "--container", metavar="NAME", help="Container of the pod.")
@click.option("-i", "--stdin", "want_stdin", is_flag=True, help="Pass this command's standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Ask for a terminal; stderr is then mixed into stdout.")
@click.option("--url", metavar="URL", help="A streaming URL made elsewhere, instead of POD and COMMAND.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after this long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line about the outcome on stderr.")
@click.option("-v", "--verbose", count=True, help="What was agreed and moved, on stderr; twice: every frame.")
@connection_options
def exec_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Run COMMAND in a container and exit with its exit code.

    \b
    kubewire exec --kubelet https://10.0.0.1:10250 --certificate-authority ca.crt \\
        --client-certificate me.crt --client-key me.key default/web -c app -- ls /
    """
    connection = take_connection(values)
    request = _Request(connection=connection, **values)
    sys.exit(_run(request))


class _Request:
    """The checked arguments of one call."""

    def __init__(
        self,
        *,
        connection: Connection,
        pod: str | None,
        command: tuple[str, ...],
        namespace: str | None,
        container: str | None,
        want_stdin: bool,
        tty: bool,
        url: str | None,
        timeout: float | None,
        as_json: bool,
        verbose: int,
    ) -> None:
        self.connection = connection
        self.container = container
        self.stdin = 0 if want_stdin else None
        self.tty = tty and _terminal_fits(want_stdin)
        self.url = url
        self.timeout = timeout
        self.as_json = as_json
        self.verbose = verbose
        self.command = list(command)
        if url is not None:
            if pod or command or connection.kubelet:
                raise click.UsageError("--url says everything: give no POD, COMMAND or --kubelet with it")
            return
        if not connection.kubelet:
            raise click.UsageError("give --kubelet URL, the kubelet to go to (or --url)")
        if not pod:
            raise click.UsageError("name the pod: [NS/]POD")
        if not command:
            raise click.UsageError("give the command to run, after --")
        self.namespace, self.pod = _split_pod(pod, namespace)


def _terminal_fits(want_stdin: bool) -> bool:
    """A remote terminal that is fed from something else than a terminal would echo and translate plain data, so, as in
    kubectl, none is asked for then."""
    if want_stdin and not os.isatty(0):
        click.echo("kubewire: standard input is not a terminal, so --tty is left out", err=True)
        return False
    return True


def _split_pod(pod: str, namespace: str | None) -> tuple[str, str]:
    before, slash, name = pod.rpartition("/")
    if not slash:
        return namespace or "default", pod
    if namespace is not None and namespace != before:
        raise click.UsageError(f"two namespaces: {namespace!r} by --namespace and {before!r} in {pod!r}")
    return before, name


def _run(request: _Request) -> int:
    from kubeletclient import ClientError

    began = time.monotonic()
    try:
        with _start(request) as process, _local_terminal(request, process):
            code = process.wait()
    except ClientError as error:
        _report_failure(request, error)
        return UNKNOWN
    except BrokenPipeError:
        # Whoever read our output has left; a local command in a pipe would have died of SIGPIPE here.
        _silence_stdout()
        return 128 + 13
    except KeyboardInterrupt:
        return 128 + 2
    except (ValueError, OSError) as error:
        _report_failure(request, error)
        return 2 if isinstance(error, ValueError) else UNKNOWN
    _report_success(request, process, code, time.monotonic() - began)
    return code


@contextmanager
def _local_terminal(request: _Request, process: Process) -> Iterator[None]:
    """Raw mode and size of the terminal at hand, for a remote one."""
    if not request.tty:
        yield
        return
    from kubewire import terminal

    with ExitStack() as stack:
        if request.stdin is not None:
            stack.enter_context(terminal.raw_mode(request.stdin))
        if terminal.is_terminal(1):
            stack.enter_context(terminal.following_size(1, process.resize))
        yield


def _start(request: _Request) -> Process:
    """Connects, and returns once the server has accepted the streams."""
    from kubeletclient import Kubelet, connect_exec
    from kubewire import __version__

    outputs: dict[str, Any] = {"stdin": request.stdin, "stdout": 1, "stderr": None if request.tty else 2}
    common = request.connection.trust() | {"user_agent": f"kubewire/{__version__}"}
    if request.verbose > 1:
        common["tracer"] = _trace
    if request.url is not None:
        return connect_exec(request.url, timeout=request.timeout, **outputs, **common)
    assert request.connection.kubelet is not None
    pod = Kubelet(request.connection.kubelet, **common).pod(request.pod, namespace=request.namespace)
    return pod.popen(request.command, container=request.container, tty=request.tty, timeout=request.timeout, **outputs)


def _trace(direction: str, frame: tuple[object, ...]) -> None:
    arrow = "<" if direction == "in" else ">"
    click.echo(f"kubewire: {arrow} {' '.join(str(part) for part in frame)}", err=True)


def _report_success(request: _Request, process: Process, code: int, seconds: float) -> None:
    if request.as_json:
        _echo_json(
            {
                "exit_code": code,
                "route": process.route,
                "protocol": process.protocol,
                "received": process.received,
                "sent": process.sent,
                "seconds": round(seconds, 6),
                "error": None,
            }
        )
    elif request.verbose:
        payload = process.sent | process.received
        moved = [f"{payload[kind]} bytes of {kind}" for kind in ("stdin", "stdout", "stderr") if payload.get(kind)]
        click.echo(
            f"kubewire: exit code {code}, {process.protocol} over SPDY/3.1 by the {process.route}, "
            f"{', '.join(moved) or 'no bytes'}, {seconds:.3f} s",
            err=True,
        )


def _report_failure(request: _Request, error: Exception) -> None:
    if not request.as_json:
        click.echo(f"kubewire: {error}", err=True)
        return
    _echo_json(
        {
            "exit_code": None,
            "route": getattr(error, "route", None) or None,
            "http_status": getattr(error, "http_status", None),
            "received": getattr(error, "received", {}),
            "sent": getattr(error, "sent", {}),
            "owed": list(getattr(error, "owed", ())),
            "error": {"type": type(error).__name__, "message": str(error)},
        }
    )


def _echo_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document), err=True)


def _silence_stdout() -> None:
    """Keeps the interpreter's own flush at exit from meeting the broken pipe again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
