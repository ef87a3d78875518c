"""What one step of converging did: the one shape in which every step answers and every Ansible module reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass
class Outcome:
    """`changes`, a line each in order (planned, in check mode); `before` and `after` are the state, for a diff.

    `facts` is what else the caller may want to know, by name; it is no change.
    """

    changes: list[str] = field(default_factory=list)
    before: Document = field(default_factory=dict)
    after: Document = field(default_factory=dict)
    facts: Document = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything was, or in check mode would be, changed."""
        return bool(self.changes)

    def as_module_result(self) -> Document:
        """What an Ansible module exits with; a diff only where there is something to compare."""
        result: Document = {"changed": self.changed, "changes": self.changes}
        if self.before or self.after:
            result["diff"] = {"before": self.before, "after": self.after}
        return result | self.facts
