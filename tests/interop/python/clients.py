"""What users of the Python clients do: ``clients.py KUBECONFIG NAME`` does one thing and prints it as JSON.

Runs in an environment of its own (``tests/support/pyclients.py``); the names are those of the functions in ``ACTIONS``.
An exception is an answer, too: ``{"error": TYPE, "text": ...}``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

BINARY = ["random", "5000", "1"]
ACTIONS: dict[str, Callable[[str], Any]] = {}


def action(function: Callable[[str], Any]) -> Callable[[str], Any]:
    ACTIONS[function.__name__] = function
    return function


# -- the official client -----------------------------------------------------------------------------------------------


def _core(kubeconfig: str) -> Any:
    from kubernetes import client, config

    config.load_kube_config(kubeconfig)
    return client.CoreV1Api()


def _stream(core: Any, command: list[str], stdin: bool = False, **options: Any) -> Any:
    from kubernetes.stream import stream

    return stream(
        core.connect_get_namespaced_pod_exec, "demo", "default", command=command, container="main",
        stdin=stdin, stdout=True, stderr=True, tty=False, **options,
    )  # fmt: skip


@action
def kubernetes_objects(kubeconfig: str) -> Any:
    core = _core(kubeconfig)
    pods = [pod.metadata.name for pod in core.list_namespaced_pod("default", label_selector="app=demo").items]
    return {"pods": pods, "nodes": [node.metadata.name for node in core.list_node().items]}


@action
def kubernetes_watch(kubeconfig: str) -> Any:
    from kubernetes import watch

    events = watch.Watch().stream(_core(kubeconfig).list_namespaced_pod, "default", timeout_seconds=1)
    return sorted(event["object"].metadata.name for event in events)


@action
def kubernetes_log(kubeconfig: str) -> Any:
    return _core(kubeconfig).read_namespaced_pod_log("log", "default")


@action
def kubernetes_exec(kubeconfig: str) -> Any:
    session = _stream(_core(kubeconfig), ["exit", "3"], _preload_content=False)
    session.run_forever(timeout=20)
    return {"returncode": session.returncode, "echo": _stream(_core(kubeconfig), ["echo", "hello"])}


@action
def kubernetes_stdin(kubeconfig: str) -> Any:
    session = _stream(_core(kubeconfig), ["sink"], stdin=True, _preload_content=False)
    session.write_stdin("abc")
    session.close_channel(0)
    session.run_forever(timeout=3)
    output = session.read_stdout(timeout=1)
    session.close()
    return output


@action
def kubernetes_text(kubeconfig: str) -> Any:
    """The default: every frame is decoded by itself, and what is no UTF-8 is replaced."""
    return base64.b64encode(_stream(_core(kubeconfig), BINARY).encode()).decode()


@action
def kubernetes_attach(kubeconfig: str) -> Any:
    from kubernetes.stream import stream

    core = _core(kubeconfig)
    session = stream(
        core.connect_get_namespaced_pod_attach, "cat", "default", stdin=True, stdout=True, stderr=True, tty=False,
        _preload_content=False,
    )  # fmt: skip
    session.write_stdin("there and back\n")
    line = session.readline_stdout(timeout=20)
    session.close()
    return line


# -- kr8s --------------------------------------------------------------------------------------------------------------


def _kr8s(kubeconfig: str, name: str) -> Any:
    import kr8s
    from kr8s.objects import Pod

    return Pod.get(name, namespace="default", api=kr8s.api(kubeconfig=kubeconfig))


@action
def kr8s_objects(kubeconfig: str) -> Any:
    import kr8s

    return sorted(pod.name for pod in kr8s.api(kubeconfig=kubeconfig).get("pods"))


@action
def kr8s_log(kubeconfig: str) -> Any:
    return list(_kr8s(kubeconfig, "log").logs())


@action
def kr8s_exec(kubeconfig: str) -> Any:
    pod = _kr8s(kubeconfig, "demo")
    done = pod.exec(BINARY)
    output = base64.b64encode(done.stdout).decode()
    return {"returncode": pod.exec(["exit", "3"], check=False).returncode, "output": output}


@action
def kr8s_stdin(kubeconfig: str) -> Any:
    """Offers v4 and demands v5 of the connection: raises whatever the server does."""
    return _kr8s(kubeconfig, "demo").exec(["sink"], stdin=b"abc").stdout.decode()


# -- lightkube ---------------------------------------------------------------------------------------------------------


def _lightkube(kubeconfig: str) -> Any:
    import lightkube
    from lightkube.config.kubeconfig import KubeConfig

    return lightkube.Client(config=KubeConfig.from_file(kubeconfig))


@action
def lightkube_objects(kubeconfig: str) -> Any:
    from lightkube.resources.core_v1 import Node, Pod

    client = _lightkube(kubeconfig)
    pods = sorted(pod.metadata.name for pod in client.list(Pod))
    return {"pods": pods, "nodes": [node.metadata.name for node in client.list(Node)]}


@action
def lightkube_log(kubeconfig: str) -> Any:
    return list(_lightkube(kubeconfig).log("log"))


@action
def lightkube_exec(kubeconfig: str) -> Any:
    client = _lightkube(kubeconfig)
    done = client.exec("demo", command=BINARY, stdout=True, stderr=True, decode=None)
    failed = client.exec("demo", command=["exit", "3"], stdout=True, stderr=True, raise_on_error=False)
    return {"returncode": failed.exit_code, "output": base64.b64encode(done.stdout).decode()}


@action
def lightkube_stdin(kubeconfig: str) -> Any:
    return _lightkube(kubeconfig).exec("demo", command=["sink"], stdin="abc", stdout=True).stdout


# -- kubernetes_asyncio ------------------------------------------------------------------------------------------------


def _asyncio(kubeconfig: str, use: Callable[[Any, Any], Any], *, stream: bool) -> Any:
    import kubernetes_asyncio
    from kubernetes_asyncio.stream import WsApiClient

    async def run() -> Any:
        await kubernetes_asyncio.config.load_kube_config(kubeconfig)
        async with WsApiClient() if stream else kubernetes_asyncio.client.ApiClient() as api:
            return await use(kubernetes_asyncio.client.CoreV1Api(api), api)

    return asyncio.run(run())


@action
def asyncio_objects(kubeconfig: str) -> Any:
    async def use(core: Any, api: Any) -> Any:
        return sorted(pod.metadata.name for pod in (await core.list_namespaced_pod("default")).items)

    return _asyncio(kubeconfig, use, stream=False)


@action
def asyncio_log(kubeconfig: str) -> Any:
    async def use(core: Any, api: Any) -> Any:
        return await core.read_namespaced_pod_log("log", "default")

    return _asyncio(kubeconfig, use, stream=False)


@action
def asyncio_exec(kubeconfig: str) -> Any:
    async def use(core: Any, api: Any) -> Any:
        exec_ = core.connect_get_namespaced_pod_exec
        flags = {"stdin": False, "stdout": True, "stderr": True, "tty": False}
        hello = await exec_("demo", "default", command=["echo", "hello"], **flags)
        failed = await exec_("demo", "default", command=["exit", "3"], _preload_content=False, **flags)
        status = b""
        async with failed as socket:
            async for message in socket:
                if message.data[:1] == b"\3":
                    status += message.data[1:]
        return {"echo": hello, "returncode": api.parse_error_data(status.decode())}

    return _asyncio(kubeconfig, use, stream=True)


@action
def asyncio_attach(kubeconfig: str) -> Any:
    async def use(core: Any, api: Any) -> Any:
        session = await core.connect_get_namespaced_pod_attach(
            "cat", "default", stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False
        )
        async with session as socket:
            await socket.send_bytes(b"\0there and back\n")
            async for message in socket:
                if message.data[:1] == b"\1" and len(message.data) > 1:
                    return message.data[1:].decode()
        return None

    return _asyncio(kubeconfig, use, stream=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    try:
        found = {"result": ACTIONS[sys.argv[2]](sys.argv[1])}
    except BaseException as error:
        found = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(found))
