"""Who may do what at the fake apiserver: a table of rules, judged as RBAC judges them.

A rule grants; nothing denies. ``*`` stands for everything. A resource is written as in a Role: ``pods``,
``pods/exec``, ``*/scale``; a rule for ``pods`` is none for ``pods/exec``. The members of ``system:masters`` may do
everything, whatever the table says.

The verb of a request comes from its method (``k8s.io/apiserver: pkg/endpoints/request/requestinfo.go``), with one
exception that has a history: exec, attach and port-forward over WebSocket are GETs, so up to Kubernetes 1.34 who may
``get pods/exec`` may run commands; from 1.35 on they need ``create``, too
(``AuthorizePodWebsocketUpgradeCreatePermission``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fakekubelet.auth import AUTHENTICATED, User

MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Access:
    """A question: may ``user`` do ``verb`` on a resource, or on a ``path`` that is none?"""

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def kind(self) -> str:
        """The resource with its subresource, as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def refusal(self) -> str:
        """Why not, in the words of an apiserver."""
        if not self.resource:
            return f'User "{self.user.name}" cannot {self.verb} path "{self.path}"'
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        what = f'resource "{self.kind}" in API group "{self.group}"'
        return f'User "{self.user.name}" cannot {self.verb} {what} {where}'


def _covers(granted: Sequence[str], asked: str) -> bool:
    return "*" in granted or asked in granted


@dataclass(frozen=True, slots=True)
class Rule:
    """A role and whom it is bound to.

    It speaks for the ``users`` and the members of the ``groups``; naming neither, for everybody who is authenticated.
    ``namespaces`` empty is the whole cluster, with the kinds that are in no namespace; named ones are as a RoleBinding
    in each. ``names`` narrow it to some objects. ``paths`` are URLs outside of resources, with ``*`` at the end for all
    below.
    """

    verbs: tuple[str, ...]
    resources: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ("*",)
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in self.__slots__:
            value = getattr(self, field)
            if isinstance(value, str):  # "get" would be read as the verbs g, e and t
                raise ValueError(f"a rule's {field} are a sequence of texts, not {value!r}")
            object.__setattr__(self, field, tuple(value))
        if not self.verbs or not (self.resources or self.paths):
            raise ValueError("a rule needs verbs, and resources or paths")

    def allows(self, access: Access) -> bool:
        """Whether this rule grants what is asked."""
        return self._speaks_for(access.user) and _covers(self.verbs, access.verb) and self._reaches(access)

    def _speaks_for(self, user: User) -> bool:
        if not self.users and not self.groups:
            return AUTHENTICATED in user.groups
        return _covers(self.users, user.name) or any(_covers(self.groups, group) for group in user.groups)

    def _reaches(self, access: Access) -> bool:
        if not access.resource:
            return any(
                path in ("*", access.path) or (path.endswith("*") and access.path.startswith(path[:-1]))
                for path in self.paths
            )
        kinds = (access.kind, f"*/{access.subresource}") if access.subresource else (access.kind,)
        return (
            _covers(self.api_groups, access.group)
            and any(_covers(self.resources, kind) for kind in kinds)
            and (not self.namespaces or access.namespace in self.namespaces)
            and (not self.names or access.name in self.names)
        )


DISCOVERY = Rule(
    ("get",), paths=("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/openapi/*", "/version")
)
"""What everybody may who is authenticated: ``system:discovery``."""

SELF_REVIEW = Rule(
    ("create",),
    ("selfsubjectaccessreviews", "selfsubjectreviews"),
    api_groups=("authorization.k8s.io", "authentication.k8s.io"),
)
"""And ``system:basic-user``: to ask what one may do."""


class RuleTable:
    """The rules in force. ``rules`` may be changed at any time; a request sees the ones before or those after."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules: tuple[Rule, ...] = tuple(rules)

    def add(self, *rules: Rule) -> None:
        """Grant more."""
        self.rules = (*self.rules, *rules)

    def allows(self, access: Access) -> bool:
        """Whether any rule does."""
        if MASTERS in access.user.groups:
            return True
        return any(rule.allows(access) for rule in (DISCOVERY, SELF_REVIEW, *self.rules))


AccessJudge = Callable[[Access], bool]
"""What may stand in place of a table: any function."""
