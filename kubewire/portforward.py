"""``kubewire port-forward``: ports of a pod on this machine, until it is stopped."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from kubewire.connection import Connection, connection_options, take_connection
from kubewire.exec import UNKNOWN, WRONG_USAGE, report_failure, trace

if TYPE_CHECKING:
    from kubeletclient import Forward, ForwardEvent

_CHANGES: Final = frozenset({"listening", "connected", "lost", "retry", "refused"})
"""What everybody is told. Connections that come and go are for ``-v``, those that fail for everybody."""


@click.command("port-forward")
@click.argument("pod", metavar="[NS/]POD | KIND/NAME")
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@click.option("-n", "--namespace", metavar="NS", help="Namespace of the pod.  [default: the context's, or default]")
@click.option(
    "--address",
    default="localhost",
    show_default=True,
    metavar="LIST",
    help="Where to listen: localhost (IPv4 and IPv6), IP addresses, or a comma list.",
)
@click.option("--once", is_flag=True, help="End when the session is lost, instead of dialling again.")
@click.option("--isolate", is_flag=True, help="A session of its own for each connection: exact back-pressure.")
@click.option(
    "--hold-half-close",
    is_flag=True,
    help="Do not tell the pod that a client has half-closed: containerd cuts the answer a second later.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For a connection, until there is a session again.",
)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="For the first session.")
@click.option("--json", "as_json", is_flag=True, help="Every event, and the statistics at the end, as JSON lines.")
@click.option("-v", "--verbose", count=True, help="Every connection, on stderr; twice: every frame.")
@connection_options
def port_forward_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Forward ports of a pod, or of whatever pod a deployment or service has, to this machine.

    REMOTE is a port or its name; LOCAL a port (0, or nothing before the colon: a free one) or the path of a Unix
    socket. Each connection is for itself: one that fails is reset, and the others go on. When the pod is replaced, or
    the connection to it is lost, the ports stay open, and the pod is looked up and dialled again.

    \b
    kubewire port-forward deploy/web 8080:80 :9090
    kubewire port-forward db /tmp/.s.PGSQL.5432:5432

    Ends with Ctrl-C or SIGTERM and exit code 0; with 255 when no session can be had.
    """
    sys.exit(_run(take_connection(values), **values))


def _run(
    connection: Connection,
    *,
    pod: str,
    ports: tuple[str, ...],
    namespace: str | None,
    address: str,
    once: bool,
    isolate: bool,
    hold_half_close: bool,
    wait: float,
    timeout: float | None,
    as_json: bool,
    verbose: int,
) -> int:
    from kubeletclient import ClientError

    teller = _Teller(as_json=as_json, verbose=verbose, once=once)
    began = time.monotonic()
    try:
        with _stopped_by_signals(teller.stop):
            target = connection.open_pod(pod, namespace, tracer=trace if verbose > 1 else None)
            with target.forward(
                ports,
                address=[each.strip() for each in address.split(",")],
                on_event=teller.tell,
                isolate=isolate,
                hold_half_close=hold_half_close,
                supervised=not once,
                wait=wait,
                timeout=timeout,
            ) as forward:
                teller.stop.wait()
            teller.conclude(forward, time.monotonic() - began)
    except ClientError as error:
        report_failure(error, as_json=as_json)
        return UNKNOWN
    except KeyboardInterrupt:
        return 128 + 2
    except (ValueError, OSError) as error:
        report_failure(error, as_json=as_json)
        return WRONG_USAGE if isinstance(error, ValueError) else UNKNOWN
    return UNKNOWN if teller.lost else 0


class _Teller:
    """Says what happens, in the thread that forwards."""

    def __init__(self, *, as_json: bool, verbose: int, once: bool) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._once = once
        self.stop = threading.Event()
        self.lost = False

    def tell(self, event: ForwardEvent) -> None:
        """One event."""
        if self._as_json:
            click.echo(json.dumps({"event": event.kind, **event.fields}), err=True)
        elif event.kind in _CHANGES or self._verbose or event.fields.get("ended") in ("failed", "lost"):
            click.echo(f"kubewire: {event.text}", err=True)
        if event.kind == "lost" and self._once:
            self.lost = True
            self.stop.set()

    def conclude(self, forward: Forward, seconds: float) -> None:
        """The statistics."""
        totals = forward.totals
        if self._as_json:
            document = {
                "event": "statistics",
                "connections": totals.connections,
                "sent": totals.sent,
                "received": totals.received,
                "ended": totals.ended,
                "seconds": round(seconds, 3),
            }
            click.echo(json.dumps(document), err=True)
            return
        how = ", ".join(f"{count} {name}" for name, count in sorted(totals.ended.items())) or "none"
        click.echo(
            f"kubewire: {totals.connections} connections in {seconds:.1f} s ({how}), {totals.sent} bytes to the pod, "
            f"{totals.received} from it",
            err=True,
        )


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM are how this command ends; before there is a session, they end it as any other."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
