"""The endpoints that reach into a container: exec, attach, run, portForward.

The order of one request: options (400), pod (404), container (500, in the words of the runtime), then the proxy to the
runtime: not an upgrade (500); then WebSocket or SPDY: subprotocol and upgrade headers (400, 403 or 405 in the words of
the runtime), 101.

Sources: ``k/k: pkg/kubelet/server/server.go``, ``pkg/kubelet/kubelet_pods.go``; ``cri-client: pkg/remote_runtime.go``
(ExecSync). portForward has a module of its own, ``forwardroute``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from email.utils import formatdate
from functools import partial

from fakekubelet.accounting import SessionRecord
from fakekubelet.auth import User
from fakekubelet.forwardroute import answer_port_forward
from fakekubelet.gojson import quoted
from fakekubelet.mains import Attachment
from fakekubelet.messages import Answer, RawAnswer, Request, Response, Upgrade, go_error, plain
from fakekubelet.node import Node
from fakekubelet.pods import Pod
from fakekubelet.runtimes import Command, ExecRequest, Execution, Runtime, internal_failure
from fakekubelet.sessions import ExecSession
from fakekubelet.upgrades import Carrier, SessionHost
from fakekubelet.websockets import dialect
from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.channels.upgrade import negotiate_upgrade
from spdyproto.types import Buffer
from spdyproto.websocket.handshake import negotiate_websocket, wants_websocket

RUN_LIMIT = 16 * 1024 * 1024
"""Bytes of output of ``/run``: what fits into one message of the runtime."""


class StreamAPI:
    """Handlers, as ``routing.Handler``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # -- exec and attach ---------------------------------------------------------------------------------------------

    def exec(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/exec/{namespace}/{pod}[/{uid}]/{container}``"""
        return self._stream(request, user, names, attach=False)

    def attach(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/attach/{namespace}/{pod}[/{uid}]/{container}``"""
        return self._stream(request, user, names, attach=True)

    def _stream(self, request: Request, user: User, names: dict[str, str], *, attach: bool) -> Answer:
        tty, stdin, stdout, stderr = (request.first(key) == "1" for key in ("tty", "input", "output", "error"))
        stderr = stderr and not tty  # dropped without a word
        if not (stdin or stdout or stderr):
            return plain(400, "you must specify at least 1 of stdin, stdout, stderr")
        state = self._node.pods.state(f"{names['namespace']}/{names['pod']}")
        if state is None:
            return plain(404, "pod does not exist")
        pod, name = state.pod, names["container"]
        found = state.find(name)
        if found is None or not found.started:
            missing = f"container {name} not found in pod {_full_name(pod)}"
            return plain(500, missing if attach else f"container not found ({quoted(name)})")
        main = found.main
        if attach:
            # The container's word, not the client's: a terminal is there from the start or never.
            tty = found.container.tty
            if names.get("uid", pod.uid) != pod.uid:  # exec does not compare: it finds the pod by its full name
                return plain(500, f"pod {_full_name(pod)} not found")
        if main.over:
            return plain(500, _rpc_error("Unknown", "container is in CONTAINER_EXITED state"))
        if tty and stderr:
            return plain(500, _rpc_error("InvalidArgument", "tty and stderr cannot both be true"))
        if not request.wants_upgrade:
            return go_error(500, "Upgrade request required")
        wanted = ExecRequest(
            namespace=pod.namespace,
            pod=pod.short_name,
            container=name,
            argv=() if attach else tuple(request.query.get("command", ())),
            streams=StreamSet(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty),
            protocol=Subprotocol.V4,
            user=user,
            attach=attach,
        )
        return self._upgrade(request, wanted, partial(Attachment, main=main) if attach else found.runtime)

    def _upgrade(self, request: Request, wanted: ExecRequest, runtime: Runtime) -> Answer:
        """The runtime's streaming server: what asks for a WebSocket gets one, everything else is taken for SPDY."""
        if wants_websocket(request.headers):
            decision = negotiate_websocket(request.headers, self._node.websocket_protocols, method=request.method)
            if decision.protocol is None:
                return RawAnswer(decision.to_bytes())
            protocol, transport = dialect(decision.protocol)
            return self._accept(decision.headers, replace(wanted, protocol=protocol, transport=transport), runtime)
        decision = negotiate_upgrade(request.headers, self._node.protocols)
        if decision.protocol is None:
            dated = [*decision.headers, (b"Date", formatdate(usegmt=True).encode())]
            return RawAnswer(replace(decision, headers=dated).to_bytes())
        protocol = Subprotocol(decision.protocol)
        return self._accept(decision.headers, replace(wanted, protocol=protocol), runtime)

    def _accept(self, headers: list[tuple[bytes, bytes]], request: ExecRequest, runtime: Runtime) -> Upgrade:
        def open_session(carrier: Carrier, host: SessionHost) -> ExecSession:
            session = ExecSession(carrier, host, request, runtime, self._node.profile)
            self._node.executions.append(session.execution)  # before the 101, so that a client which has it finds it
            return session

        target = f"{request.namespace}/{request.pod}/{request.container}"
        kind = "attach" if request.attach else "exec"
        return Upgrade(headers, open_session, SessionRecord(kind, target, request.user.name))

    # -- run ---------------------------------------------------------------------------------------------------------

    async def run(self, request: Request, user: User, names: dict[str, str]) -> Response:
        """``/run/{namespace}/{pod}[/{uid}]/{container}``: the output of a command, when it is over."""
        state = self._node.pods.state(f"{names['namespace']}/{names['pod']}")
        if state is None:
            return plain(404, "pod does not exist")
        found = state.find(names["container"])
        if found is None or not found.started:
            return plain(500, f"container not found ({quoted(names['container'])})")
        if found.main.over:
            failed = "failed to exec in container: container is in CONTAINER_EXITED state"
            return plain(500, _rpc_error("Unknown", failed))
        argv = (request.form_values("cmd") or [""])[0].split(" ")
        pod = state.pod
        wanted = ExecRequest(
            pod.namespace, pod.short_name, names["container"], tuple(argv), StreamSet(), Subprotocol.V4, user
        )
        run = _Run(wanted)
        self._node.executions.append(run.execution)
        status = await run.finish(found.runtime)
        output, errors = (bytes(run.output[kind]) for kind in (StreamKind.STDOUT, StreamKind.STDERR))
        if status.ok:
            return Response(200, output + errors, [("Content-Type", "application/json")])  # it says so, and it is not
        if status.code is not None:
            shown = errors.decode("utf-8", "surrogateescape")
            return plain(500, f"command '{' '.join(argv)}' exited with {status.code}: {shown}")
        cause = status.message.removeprefix(internal_failure("").message)
        return plain(500, _rpc_error("Unknown", cause))

    # -- portForward -------------------------------------------------------------------------------------------------

    def port_forward(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        """``/portForward/{namespace}/{pod}[/{uid}]``"""
        node = self._node
        return answer_port_forward(
            request,
            node.pods.get(f"{names['namespace']}/{names['pod']}"),
            names.get("uid"),
            tunnels=node.profile.tunnels or "v5.channel.k8s.io" in node.websocket_protocols,  # the same gate
            grace=node.forward_grace,
            record=node.forwards.append,
            watch=node.pods.watch,
            websocket_protocols=node.profile.forward_websocket,
        )


class _Run:
    """The ``Outlet`` of a command without a client: what it writes is collected."""

    def __init__(self, request: ExecRequest) -> None:
        self.execution = Execution(request)
        self.output = {StreamKind.STDOUT: bytearray(), StreamKind.STDERR: bytearray()}
        self.loop = asyncio.get_running_loop()
        self._over: asyncio.Future[ExitStatus] = self.loop.create_future()
        self._command: Command | None = None

    async def finish(self, runtime: Runtime) -> ExitStatus:
        """Run it. When the client leaves before the end the command is ended."""
        try:
            command = runtime(self.execution.request)
            command.outlet = self
            self._command = command
            command.start()
            command.stdin_ended()
        except Exception as error:
            self.exit(internal_failure(str(error) or type(error).__name__))
        status = None
        try:
            status = await self._over
            return status
        except asyncio.CancelledError:
            self.execution.mark_left()
            if self._command is not None:
                await self._command.close()
            raise
        finally:
            self.execution.mark_over(status)

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """As ``Outlet.write``."""
        if self._over.done():
            return True
        self.output[kind] += data
        size = sum(map(len, self.output.values()))
        if size > RUN_LIMIT:
            self.exit(internal_failure(f"grpc: received message larger than max ({size} vs. {RUN_LIMIT})"))
            return False
        self.loop.call_soon(self._offer_room)
        return False  # others have their turn

    def _offer_room(self) -> None:
        if self._command is not None and not self._over.done():
            try:
                self._command.writable()
            except Exception as error:
                self.exit(internal_failure(f"{type(error).__name__}: {error}"))

    def end(self, kind: StreamKind) -> None:
        """As ``Outlet.end``."""

    def exit(self, status: ExitStatus) -> None:
        """As ``Outlet.exit``."""
        if not self._over.done():
            self._over.set_result(status)

    def pause_stdin(self) -> None:
        """As ``Outlet.pause_stdin``: there is none."""

    def resume_stdin(self) -> None:
        """As ``Outlet.resume_stdin``."""


def _full_name(pod: Pod) -> str:
    """As the kubelet names a pod among its own."""
    return f"{pod.short_name}_{pod.namespace}"


def _rpc_error(code: str, text: str) -> str:
    """What the runtime says to the kubelet, in the words of gRPC."""
    return f"rpc error: code = {code} desc = {text}"
