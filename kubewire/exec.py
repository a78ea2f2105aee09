"""``kubewire exec``: run a command in a container, with its own streams and its own exit code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import (
    Connection,
    connection_options,
    container_option,
    namespace_option,
    optional_pod_argument,
    take_connection,
)

if TYPE_CHECKING:
    from kubeletclient import Process
    from spdyproto.types import Tracer

UNKNOWN: Final = 255
"""The exit code when the remote one could not be learned, as ssh has it."""

WRONG_USAGE: Final = 2

_CARRIERS: Final = {"spdy": "SPDY/3.1", "ws": "WebSocket"}


@click.command("exec", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": True})
@optional_pod_argument
@click.argument("command", nargs=-1, metavar="-- COMMAND...", type=click.UNPROCESSED)
@namespace_option
@container_option
@click.option("-i", "--stdin", "want_stdin", is_flag=True, help="Pass this command's standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Ask for a terminal; stderr is then mixed into stdout.")
@click.option(
    "--url", metavar="URL", help="A streaming URL made elsewhere, instead of POD and COMMAND; -i and -t as it has them."
)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after this long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line about the outcome on stderr.")
@click.option("-v", "--verbose", count=True, help="What was agreed and moved, on stderr; twice: every frame.")
@connection_options
def exec_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Run COMMAND in a container and exit with its exit code.

    The pod is found by the kubeconfig, as kubectl does, or on one kubelet that is named. Of an object that has pods,
    as in deploy/web, the best is taken.

    \b
    kubewire exec web -c app -- ls /
    kubewire exec -n prod deploy/web --via kubelet -- ls /
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
        self.tty = tty and (url is not None or terminal_fits(want_stdin))
        self.url = url
        self.timeout = timeout
        self.as_json = as_json
        self.verbose = verbose
        self.command = list(command)
        if url is not None:
            if pod or command or connection.kubelet:
                raise click.UsageError("--url says everything: give no POD, COMMAND or --kubelet with it")
            return
        if not pod:
            raise click.UsageError("name the pod: [NS/]POD")
        if not command:
            raise click.UsageError("give the command to run, after --")
        self.namespace, self.pod = namespace, pod


def terminal_fits(want_stdin: bool) -> bool:
    """A remote terminal that is fed from something else than a terminal would echo and translate plain data, so, as in
    kubectl, none is asked for then."""
    if want_stdin and not os.isatty(0):
        click.echo("kubewire: standard input is not a terminal, so --tty is left out", err=True)
        return False
    return True


def _run(request: _Request) -> int:
    from kubeletclient import ClientError, StdinCannotEnd

    began = time.monotonic()
    try:
        with _start(request) as process, local_terminal(process, tty=request.tty, stdin=request.stdin is not None):
            code = process.wait()
    except ClientError as error:
        report_failure(error, as_json=request.as_json)
        return WRONG_USAGE if isinstance(error, StdinCannotEnd) else UNKNOWN
    except BrokenPipeError:
        # Whoever read our output has left; a local command in a pipe would have died of SIGPIPE here.
        silence_stdout()
        return 128 + 13
    except KeyboardInterrupt:
        return 128 + 2
    except (ValueError, OSError) as error:
        report_failure(error, as_json=request.as_json)
        return WRONG_USAGE if isinstance(error, ValueError) else UNKNOWN
    seconds = time.monotonic() - began
    report_success(process, f"exit code {code}", code, seconds, as_json=request.as_json, verbose=request.verbose)
    return code


@contextmanager
def local_terminal(process: Process, *, tty: bool, stdin: bool, redraw: bool = False) -> Iterator[None]:
    """Raw mode and size of the terminal at hand, for a remote one."""
    if not tty:
        yield
        return
    from kubewire import terminal

    with ExitStack() as stack:
        if stdin and terminal.is_terminal(0):
            stack.enter_context(terminal.raw_mode(0))
        if terminal.is_terminal(1):
            stack.enter_context(terminal.following_size(1, process.resize, redraw=redraw))
        yield


def _start(request: _Request) -> Process:
    """Connects, and returns once the server has accepted the streams."""
    outputs: dict[str, Any] = {"stdin": request.stdin, "stdout": 1, "stderr": None if request.tty else 2}
    tracer = trace if request.verbose > 1 else None
    if request.url is not None:
        return open_url(request.connection, request.url, request.tty, request.timeout, tracer, outputs)
    pod = request.connection.open_pod(request.pod, request.namespace, tracer=tracer)
    return pod.popen(request.command, container=request.container, tty=request.tty, timeout=request.timeout, **outputs)


def open_url(
    connection: Connection, url: str, tty: bool, timeout: float | None, tracer: Tracer | None, outputs: dict[str, Any]
) -> Process:
    """A session at a URL, which has fixed its streams: a server waits for each that it names, the terminal's too."""
    from kubeletclient import StreamSet, connect_exec

    streams = StreamSet(stdin=outputs["stdin"] is not None, stdout=True, stderr=not tty, tty=tty)
    return connect_exec(url, streams=streams, timeout=timeout, tracer=tracer, **outputs, **connection.trust())


def trace(direction: str, frame: tuple[object, ...]) -> None:
    """Shows one frame of the session."""
    arrow = "<" if direction == "in" else ">"
    click.echo(f"kubewire: {arrow} {' '.join(str(part) for part in frame)}", err=True)


def report_success(
    process: Process, outcome: str, code: int | None, seconds: float, *, as_json: bool, verbose: int
) -> None:
    """How the session went, for those who asked; ``code`` is None where there is no exit code."""
    if as_json:
        _echo_json(
            {
                "exit_code": code,
                "route": process.route,
                "route_reason": process.route_reason,
                "transport": process.transport,
                "attempts": [asdict(attempt) for attempt in process.attempts],
                "protocol": process.protocol,
                "received": process.received,
                "sent": process.sent,
                "seconds": round(seconds, 6),
                "error": None,
            }
        )
        return
    tell_route(process, verbose)
    if verbose:
        for attempt in process.attempts[:-1]:
            click.echo(f"kubewire: {attempt} (tried: {attempt.why})", err=True)
        chosen = process.attempts[-1]
        click.echo(f"kubewire: {chosen} (chosen: {chosen.why})", err=True)
        payload = process.sent | process.received
        moved = [f"{payload[kind]} bytes of {kind}" for kind in ("stdin", "stdout", "stderr") if payload.get(kind)]
        spoken = f"{process.protocol or 'no subprotocol'} over {_CARRIERS[process.transport]}"
        click.echo(
            f"kubewire: {outcome}, {spoken} by the {process.route}, {', '.join(moved) or 'no bytes'}, {seconds:.3f} s",
            err=True,
        )


def tell_route(process: Process, verbose: int) -> None:
    """Why that way was taken: when asked, and always when a kubelet did not let us in."""
    from kubeletclient.routes import REFUSED

    if process.route_reason and (verbose or process.route_reason.startswith(REFUSED)):
        through = "straight to the kubelet" if process.route == "kubelet" else "through the apiserver"
        click.echo(f"kubewire: {through}: {process.route_reason}", err=True)


def report_failure(error: Exception, *, as_json: bool) -> None:
    """Why there is no exit code."""
    if not as_json:
        click.echo(f"kubewire: {error}", err=True)
        return
    _echo_json(
        {
            "exit_code": None,
            "route": getattr(error, "route", None) or None,
            "route_reason": getattr(error, "route_reason", ""),
            "http_status": getattr(error, "http_status", None),
            "attempts": [asdict(attempt) for attempt in getattr(error, "attempts", ())],
            "received": getattr(error, "received", {}),
            "sent": getattr(error, "sent", {}),
            "owed": list(getattr(error, "owed", ())),
            "error": {"type": type(error).__name__, "message": str(error)},
        }
    )


def _echo_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document), err=True)


def silence_stdout() -> None:
    """Keeps the interpreter's own flush at exit from meeting the broken pipe again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
