"""The objects of a cluster, each with a resourceVersion, and what happened to them: get, list and watch.

One counter numbers every change, as etcd's revision does. The last changes are kept, so that a watch can begin in the
past; one that wants to begin before them is told so (410), and the client lists again. Objects are never changed in
place: what was handed out stays as it was.

May be used from any thread. A watcher is a callable, called under the lock and in order, that must not block: watches
hand over to their own loop.
"""

from __future__ import annotations

import datetime
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fakekubelet.apiserver.resources import Object, Resource, of_object
from fakekubelet.apiserver.status import expired

HISTORY = 2000
"""Changes that are kept. A client that falls further behind than this lists again; each costs what its object does."""

_FIRST_VERSION = 1000  # so that "0" and "1", which have meanings of their own, are no version of anything
_NAMESPACE_OF_UIDS = uuid.UUID("9a52c4f4-2f4b-4d55-9a43-5b8a8b8b6f70")

Key = tuple[str, str, str]
"""Qualified plural, namespace ("" for cluster-wide kinds), name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: ADDED, MODIFIED or DELETED, the object after it, and the one before it."""

    version: int
    kind: str
    key: Key
    document: Object
    before: Object | None


Watcher = Callable[[Change], None]


class Store:
    """See the module. Every namespace that an object is in exists, declared or not."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._objects: dict[Key, Object] = {}
        self._version = _FIRST_VERSION
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._forgotten = _FIRST_VERSION  # the last version whose change is not in the history
        self._watchers: list[tuple[str, Watcher]] = []

    # -- changing ----------------------------------------------------------------------------------------------------

    def put(self, document: Object) -> Object:
        """Declare an object, or declare it anew; answers it as stored.

        ``metadata`` needs a name; what else an object must have (uid, creationTimestamp) is filled in. Raises
        ValueError for a kind that is not served, or an object without a name.
        """
        resource = of_object(document)
        metadata = dict(document.get("metadata") or {})
        if not metadata.get("name"):
            raise ValueError(f"an object needs metadata.name: {resource.kind}")
        namespace = metadata.get("namespace") or "default" if resource.namespaced else ""
        key = (resource.qualified, namespace, metadata["name"])
        with self._lock:
            if namespace and ("namespaces", "", namespace) not in self._objects:
                self.put(namespace_document(namespace))
            before = self._objects.get(key)
            kept = before["metadata"] if before is not None else {}
            if resource.namespaced:
                metadata["namespace"] = namespace
            metadata.setdefault("uid", kept.get("uid") or str(uuid.uuid5(_NAMESPACE_OF_UIDS, "/".join(key))))
            metadata.setdefault("creationTimestamp", kept.get("creationTimestamp") or now_text())
            self._version += 1
            metadata["resourceVersion"] = str(self._version)
            stored = {**document, "metadata": metadata}
            self._objects[key] = stored
            self._record(Change(self._version, "ADDED" if before is None else "MODIFIED", key, stored, before))
            return stored

    def delete(self, resource: Resource, namespace: str, name: str) -> Object:
        """Take an object away. Raises KeyError if there is none."""
        key = (resource.qualified, namespace if resource.namespaced else "", name)
        with self._lock:
            before = self._objects.pop(key)
            self._version += 1
            gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self._version)}}
            self._record(Change(self._version, "DELETED", key, gone, before))
            return gone

    def _record(self, change: Change) -> None:
        if len(self._history) == HISTORY:
            self._forgotten = self._history[0].version
        self._history.append(change)
        for plural, watcher in list(self._watchers):
            if plural == change.key[0]:
                watcher(change)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version of the last change."""
        return self._version

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object, or None."""
        return self._objects.get((resource.qualified, namespace if resource.namespaced else "", name))

    def all(self, resource: Resource, namespace: str = "") -> tuple[int, list[Object]]:
        """The version of the list, and the objects in the order of their names; namespace "" stands for all."""
        with self._lock:
            return self._version, list(self._in(resource, namespace))

    def _in(self, resource: Resource, namespace: str) -> Iterator[Object]:
        for key in sorted(self._objects):
            if key[0] == resource.qualified and namespace in ("", key[1]):
                yield self._objects[key]

    def watch(self, resource: Resource, watcher: Watcher, *, since: int | None) -> tuple[int, list[Object]]:
        """Begin to watch: the version and the objects of the beginning, then ``watcher`` is called for each change.

        ``since`` None begins now, with all that is there; a version begins behind it, and what happened since is told
        to ``watcher`` before this returns (the list is empty then). Raises StatusError 410 for a version that is too
        old. End it with ``unwatch``.
        """
        with self._lock:
            if since is not None and since < self._forgotten:
                raise expired(f"too old resource version: {since} ({self._forgotten})")
            beginning: list[Object] = []
            if since is None:
                beginning = list(self._in(resource, ""))
            else:
                for change in self._history:
                    if change.version > since and change.key[0] == resource.qualified:
                        watcher(change)
            self._watchers.append((resource.qualified, watcher))
            return self._version, beginning

    def unwatch(self, watcher: Watcher) -> None:
        """End a watch. Nothing happens if it has ended."""
        with self._lock:
            self._watchers = [each for each in self._watchers if each[1] != watcher]


def namespace_document(name: str) -> Object:
    """An ordinary namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def now_text() -> str:
    """The time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
