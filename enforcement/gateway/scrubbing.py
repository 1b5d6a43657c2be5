"""Texts of errors and notices without values: what the database says about a row is not said to who may not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from enforcement.gateway import disguises
from enforcement.gateway.effects import JudgedPart

_DROPPED = frozenset("DHWqp")
"""Detail, hint, where, internal query and its position."""
_NOTICES = ("00", "01")
"""Classes of messages that triggers word themselves, beside P0: what they raise."""
_PLAIN_VERBS = frozenset({"read", "export", "insert", "update", "delete", "import"})
_CONDITIONS = {
    "22003": "A number is out of range", "22007": "A date or time is not written as one",
    "22008": "A date or time is out of range", "22012": "Division by zero", "22001": "A text is too long for its column",
    "22P02": "A text cannot be read as the type it is cast to", "22021": "A text is not valid in its encoding",
    "22P05": "A character has no equivalent in the client's encoding", "22023": "An argument is not one that is allowed",
    "22030": "A JSON object has a key twice", "22032": "A text is not JSON", "2200M": "A text is not XML",
    "2201B": "A regular expression is not valid", "21000": "A subquery gave more than one row",
    "23502": "A column that must have a value has none", "23503": "A foreign key is not satisfied",
    "23505": "A unique constraint is violated", "23514": "A check constraint is violated",
    "23P01": "An exclusion constraint is violated", "42804": "The types do not fit together", "42883": "No such function",
    "P0001": "A function or trigger raised an error", "57014": "The statement was cancelled",
    "40001": "The transaction cannot be serialised with others", "40P01": "The transaction is in a deadlock with others",
    "54000": "A limit of the database is exceeded", "00000": "The database gave a notice",
}  # fmt: skip
_CLASSES = {
    "01": "The database gave a warning", "22": "A value is not one that this operation takes",
    "23": "A constraint is violated", "25": "The transaction is not in a state for this",
    "42": "The statement is not one that the database accepts", "44": "The row does not satisfy the view's condition",
    "53": "The database lacks resources", "P0": "A function or trigger raised an error",
}  # fmt: skip


def scrub(fields: dict[str, str], judged: JudgedPart | None, mask: Collection[str]) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse, as the client may read them, when the classes `mask` are masked.

    Codes and the names of constraint, table and column stay. Where the statement reads protected columns, or a program of the
    database may have worded the message, the condition's plain words stand for it. `judged` is None where no statement runs.
    """
    if not mask:
        return fields
    code = fields.get("C", "")
    is_told = not _is_silent(judged, code, mask)
    shown = {}
    for name, text in fields.items():
        if name in _DROPPED and not (is_told and _may_stay(judged, code)):
            continue
        shown[name] = _judged_by_value(text, mask) if name in "MDHW" else text
    if not is_told and "M" in fields:
        words = _CONDITIONS.get(code) or _CLASSES.get(code[:2]) or "The statement failed"
        shown["M"] = f"{words}. The database's own words may hold masked values and are not shown."
    return shown


def _is_silent(judged: JudgedPart | None, code: str, mask: Collection[str]) -> bool:
    """Whether nothing of the database's own words is shown. Triggers speak in statements that write, and at COMMIT."""
    if judged is None:
        return code.startswith("P0")
    runs_triggers = judged.writes or judged.part.is_transaction_control or judged.part.tag == "SET CONSTRAINTS"
    return judged.reads_protected(mask) or code.startswith("P0") or (runs_triggers and code.startswith(_NOTICES))


def _may_stay(judged: JudgedPart | None, code: str) -> bool:
    """Whether detail and the like are about the statement, not about rows: a violated constraint quotes the row."""
    if code.startswith(("23", "44")):
        return False
    return judged is None or all(touch.verb in _PLAIN_VERBS for touch in judged.touches)


def _judged_by_value(text: str, mask: Collection[str]) -> str:
    shown = disguises.by_value(mask, Counter())(text.encode("utf-8", "surrogateescape")) or b""
    return shown.decode("utf-8", "surrogateescape")
