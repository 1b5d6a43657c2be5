"""What the verifier answers: numbered checks and one verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lineage.errors import TouchstoneError

State = Literal["pass", "fail", "missing", "note"]
Finding = tuple[State, str]

VALID, INVALID, UNTRUSTED, UNREADABLE = range(4)
NO_MEMORY = "There is not enough memory here. That says nothing of the file: check it on a larger machine."
SENTENCES = {
    VALID: "Valid: every check holds, under the keys of your policy.",
    INVALID: "Invalid: check {} failed. Do not rely on this evidence; keep the file as it is and report it.",
    UNTRUSTED: "Consistent in itself, but something is missing: see check {}. This is not a confirmation.",
    UNREADABLE: "Unreadable: {}",
}


def printable(text: str) -> str:
    """The text on one line: a pack may name things with line breaks or terminal codes to fake a verdict."""
    return "".join(char if char.isprintable() else "�" for char in text)


@dataclass(frozen=True)
class Check:
    """One numbered check. `missing` is something that trust needs and is not there; `note` is said, not judged."""

    number: int
    name: str
    state: State
    sentence: str

    def __str__(self) -> str:
        return printable(f"{self.number:>2}. {self.state:<7} {self.name}: {self.sentence}")


@dataclass(frozen=True)
class Verdict:
    """The checks that ran, and the exit code: 0 valid, 1 invalid, 2 trust missing, 3 unreadable."""

    checks: tuple[Check, ...]
    exit: int
    sentence: str

    @classmethod
    def of(cls, checks: list[Check]) -> Verdict:
        """The verdict over checks: the first state of failed, missing, passed decides."""
        for code, state in ((INVALID, "fail"), (UNTRUSTED, "missing")):
            numbers = [str(check.number) for check in checks if check.state == state]
            if numbers:
                return cls(tuple(checks), code, SENTENCES[code].format(" and ".join(numbers)))
        return cls(tuple(checks), VALID, SENTENCES[VALID])

    @classmethod
    def unreadable(cls, reason: str) -> Verdict:
        """The verdict on a file that cannot be read as a pack."""
        return cls((), UNREADABLE, SENTENCES[UNREADABLE].format(reason))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"exit": self.exit, "sentence": self.sentence, "checks": [asdict(check) for check in self.checks]}


def run(number: int, name: str, check: Callable[[], Finding]) -> Check:
    """The outcome of one check; what it raises on purpose is a failure."""
    try:
        return Check(number, name, *check())
    except TouchstoneError as error:
        return Check(number, name, "fail", error.message)
    except (ValueError, OverflowError):
        # A date such as month 99, or a time beyond the calendar: only a forged pack holds one.
        return Check(number, name, "fail", "A value is out of its range.")
