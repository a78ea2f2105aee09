"""Run `ls /` on a terminal in a container: straight at its node's kubelet, and the same through the apiserver.

    python docs/examples/direct_exec.py --kubeconfig ~/.kube/config 10.0.0.1:10250 default busybox busybox1

The credentials are those of the kubeconfig. A kubelet takes its client certificate if the cluster's CA signed it, and
asks the apiserver whether this user may `create nodes/proxy`. Many kubelets sign their own certificate: give that, or
whatever CA signed it, with --kubelet-ca.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from urllib.parse import quote, urlencode

from kubeletclient import Access, ClientError, Cluster, StreamSet, connect_exec
from kubeletclient.kubeconfig import load

COMMAND = ["ls", "/"]


def direct(node: str, namespace: str, pod: str, container: str, access: Access, *, ca: str | None, verify: bool) -> int:
    """At the kubelet, by a URL that says everything. The terminal mixes stderr into the output."""
    path = "/".join(quote(name, safe="") for name in (namespace, pod, container))
    query = urlencode([("tty", "1"), ("output", "1"), *(("command", word) for word in COMMAND)])
    with connect_exec(
        f"https://{node}/exec/{path}?{query}",
        streams=StreamSet(stdin=False, stdout=True, stderr=False, tty=True),
        credentials=access.credentials,
        ca=(ca or access.ca) if verify else None,
        verify=verify,
        timeout=30,
    ) as process:
        assert process.stdout is not None
        shutil.copyfileobj(process.stdout, sys.stdout.buffer)
        sys.stdout.flush()
        return process.wait()


def through_apiserver(namespace: str, pod: str, container: str, access: Access) -> int:
    """The same command by way of the apiserver, which needs `create pods/exec` instead."""
    with Cluster(access, via="apiserver") as cluster:
        done = cluster.pod(pod, namespace).run(COMMAND, container=container, tty=True, stdout=1, timeout=30)
    return done.returncode


def main() -> int:
    """Each way once; the exit code is that of the first command that failed."""
    parser = argparse.ArgumentParser(description="Run `ls /` straight at a kubelet, and through the apiserver.")
    parser.add_argument("node", help="HOST:PORT of the kubelet; its port is 10250 unless the cluster says otherwise")
    parser.add_argument("namespace")
    parser.add_argument("pod")
    parser.add_argument("container")
    parser.add_argument("--kubeconfig", help="instead of KUBECONFIG and ~/.kube/config")
    parser.add_argument("--context", help="instead of the current one")
    parser.add_argument("--kubelet-ca", help="who signed the kubelet's certificate, if not the cluster's CA")
    arguments = parser.parse_args()
    where = (arguments.namespace, arguments.pod, arguments.container)
    try:
        access = load(arguments.kubeconfig, context=arguments.context)
        print("# straight to the kubelet, which is verified", flush=True)
        code = direct(arguments.node, *where, access, ca=arguments.kubelet_ca, verify=True)
        print("# straight to the kubelet, and whoever answers is taken for it", flush=True)
        code = code or direct(arguments.node, *where, access, ca=None, verify=False)
        print("# through the apiserver", flush=True)
        return code or through_apiserver(*where, access)
    except ClientError as error:
        print(f"direct_exec: {error}", file=sys.stderr)
        return 255


if __name__ == "__main__":
    sys.exit(main())
