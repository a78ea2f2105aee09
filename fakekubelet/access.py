"""What users may do at a kubelet, from the same rules as at an apiserver: those for ``nodes/proxy`` and its like."""

from __future__ import annotations

from collections.abc import Iterable

from fakekubelet.apiserver.rbac import Access, Rule, RuleTable
from fakekubelet.auth import Attributes


def node_access(attributes: Attributes) -> Access:
    """A kubelet's question as an apiserver's: the node is a name of the resource ``nodes``."""
    fields = ("", "nodes", attributes.subresource, "", attributes.node)
    return Access(attributes.user, attributes.verb, *fields)


class AccessRules:
    """An authorizer from a table: what no rule allows is forbidden, except to ``system:masters``.

    ``AccessRules([Rule(["get"], ["nodes/proxy"], users=["bob"])])``; ``names=`` of a rule are nodes.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.table = RuleTable(rules)

    def __call__(self, attributes: Attributes) -> bool:
        """As ``auth.Authorizer``."""
        return self.table.allows(node_access(attributes))
