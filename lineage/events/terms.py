"""The words of the event model: kinds, classes and other closed lists, limits, and the base of its structs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

Kind = Literal["session", "query", "change", "decision", "state", "custody"]
Class = Literal["read", "write", "ddl", "privilege", "export", "procedural", "session", "decision", "state", "custody"]
Quality = Literal["source", "processing_time", "assumed_zone", "received", "unknown"]
ActorType = Literal["human", "service", "agent", "system", "unknown"]
Verdict = Literal["allowed", "masked", "approved", "pending", "blocked", "error", "unknown"]
Op = Literal[
    "read", "insert", "update", "delete", "truncate", "ddl", "privilege",
    "session", "export", "import", "procedural", "snapshot", "other",
]  # fmt: skip
ValueState = Literal["present", "null", "unchanged", "unavailable", "masked", "truncated", "absent"]
Outcome = Literal["committed", "rolled_back", "unknown"]
DecisionType = Literal[
    "access_request", "approval", "policy_evaluation", "grant", "revoke", "review", "break_glass", "erasure",
    "hold", "retention", "report_issued", "sign_off", "evidence_read", "configuration",
]  # fmt: skip
CustodyType = Literal[
    "heartbeat", "canary", "gap", "silence", "clock_skew", "count_commitment", "alarm", "key_rotation",
    "finding", "triage", "classification", "export", "access",
]  # fmt: skip
Group = Literal["actor", "action", "statement", "change"]
GROUPS: tuple[Group, ...] = get_args(Group)

STORE_ONLY_DECISIONS = frozenset(
    {"erasure", "hold", "retention", "report_issued", "sign_off", "evidence_read", "configuration"}
)

STATEMENT_LIMIT_BYTES = 64 * 1024
VALUE_LIMIT_BYTES = 16 * 1024
IMAGE_LIMIT_BYTES = 256 * 1024
TEXT_LIMIT_BYTES = 1024
HEAD_BYTES = 1024

Text = Annotated[str, msgspec.Meta(max_length=1024)]
Name = Annotated[str, msgspec.Meta(max_length=512)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]


class Ordered(msgspec.StructMeta):
    """Puts the members of a struct, each given by name, in the order of their wire names: so what is written of it is canonical."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Ordered:
        members = namespace.get("__annotations__", {})
        # A keyword of Python, such as `class`, has an underscore behind it here alone.
        namespace["__annotations__"] = {
            each: members[each] for each in sorted(members, key=lambda each: each.rstrip("_"))
        }
        return super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **config})


class Part(msgspec.Struct, metaclass=Ordered, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of every struct of the model. Python's collector need not look at them: what never changes forms no circle."""
