"""What can be tested and reported, read from files: tests of control (SQL with a head), kinds of report, frameworks.

A test is one SQL file whose head, TOML in comments between `-- /// test` and `-- ///`, says what it asks and what it
checks; so that one SHA-256 stands for all of it. Nothing here asks the store. See docs/tests-of-controls.md.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from lineage import errors

HERE = Path(__file__).resolve().parent
TESTS, FRAMEWORKS, KINDS_FILE = HERE / "tests_of_controls", HERE / "frameworks", HERE / "kinds.toml"
TABLES = TESTS / "tables"
NEEDS = frozenset({"statements", "changes", "decisions", "states"})
EITHER = " or "
BEGINS, ENDS = "-- /// {}\n", "-- ///\n"


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is checked of each item: its column in the answer is `a`, `b`, … in the order of the head."""

    title: str
    deviations: tuple[str, ...]
    letter: str = ""


class Breakdown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column by whose values the items are counted, with the reader's words for them."""

    column: str
    title: str
    words: dict[str, str] = {}


class Test(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test of control. `sql` is the whole file, as it runs and as it is attached; `sha256` is of that.

    `members`: conditions on accesses, each of which holds of some record of every item (none: no item is an access; None: it
    needs all accesses). `needs`: what must have been heard, the first being what its items are made of; "statements or changes": either.
    """

    __test__ = False  # Not one of pytest's.

    id: str
    version: int
    title: str
    question: str
    item: str
    items: str
    excluded: str
    pass_rule: str = msgspec.field(name="pass")
    tables: tuple[str, ...]
    members: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...]
    breakdowns: tuple[Breakdown, ...] = ()
    sql: str = ""
    sha256: str = ""

    @property
    def stem(self) -> str:
        """The name of its files, without an ending."""
        return self.id.replace("-", "_")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A derived table: made from `tables` by its own SQL file, frozen and attached beside them."""

    id: str
    version: int
    title: str
    tables: tuple[str, ...]
    sql: str = ""
    sha256: str = ""


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of report: `letters` begin its numbers, `tests` are its sections.

    `needs`: what must be there for it to be offered, beside what the items of its first test are made of.
    """

    letters: str
    title: str
    question: str
    tests: tuple[str, ...]
    needs: tuple[str, ...] = ()
    id: str = ""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One identifier of a framework, with a title and a question of our own, and the tests that bear on it."""

    id: str
    title: str
    question: str
    tests: tuple[str, ...]


class Framework(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reviewed_by` names the practitioner who checked the mapping; empty is printed as not reviewed."""

    name: str
    edition: str
    reviewed_by: str
    controls: tuple[Control, ...]
    id: str = ""


def read_test(sql: str) -> Test:
    """The test that a file's text tells of. Raises ValueError or msgspec.ValidationError for one that has no whole head."""
    test = msgspec.convert(_head(sql, "test"), Test)
    lettered = tuple(
        msgspec.structs.replace(attribute, letter=chr(ord("a") + number))
        for number, attribute in enumerate(test.attributes)
    )
    unknown = {word for need in test.needs for word in need.split(EITHER)} - NEEDS
    if unknown:
        raise ValueError(f"A test needs {', '.join(sorted(NEEDS))}; not {', '.join(sorted(unknown))}.")
    return msgspec.structs.replace(test, attributes=lettered, sql=sql, sha256=_digest(sql))


def read_table(sql: str) -> Table:
    """The derived table that a file's text tells of. Raises as `read_test`."""
    return msgspec.structs.replace(msgspec.convert(_head(sql, "table"), Table), sql=sql, sha256=_digest(sql))


def _head(sql: str, what: str) -> dict[str, Any]:
    head = sql.partition(BEGINS.format(what))[2].partition(ENDS)[0]
    return tomllib.loads("".join(line.removeprefix("--").removeprefix(" ") for line in head.splitlines(keepends=True)))


def _digest(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()


@functools.cache
def tests() -> dict[str, Test]:
    """All tests by id."""
    found = [read_test(path.read_text(encoding="utf-8")) for path in sorted(TESTS.glob("*.sql"))]
    return {test.id: test for test in found}


@functools.cache
def tables() -> dict[str, Table]:
    """All derived tables by id."""
    found = [read_table(path.read_text(encoding="utf-8")) for path in sorted(TABLES.glob("*.sql"))]
    return {table.id: table for table in found}


def tables_of(run: Iterable[Test]) -> list[Table]:
    """The derived tables that these tests read."""
    names = {name for test in run for name in test.tables}
    return [table for name, table in tables().items() if name in names]


def _kinds() -> dict[str, Kind]:
    told = tomllib.loads(KINDS_FILE.read_text(encoding="utf-8"))
    return {name: msgspec.convert({**fields, "id": name}, Kind) for name, fields in told.items()}


KINDS = _kinds()


def kind(name: str) -> Kind:
    """The kind of this name. Raises QueryInvalid naming those that there are."""
    found = KINDS.get(name)
    if found is None:
        raise errors.QueryInvalid(f"There is no kind of report named {name[:60]}. There is: {', '.join(KINDS)}.")
    return found


def tests_of(name: str) -> list[Test]:
    """The tests of a kind, in the order of its sections; none where the control that is asked about decides."""
    return [tests()[test] for test in kind(name).tests]


def asked(name: str, control: str) -> list[Test]:
    """The tests of a kind, or of a kind without tests of its own those that `control` names. Raises QueryInvalid for none."""
    return tests_of(name) or [tests()[test] for test in named(control)]


def title(name: str, control: str) -> str:
    """A kind's title; of an auditor's request with the control that it is about."""
    return f"{kind(name).title}: {control}" if control else kind(name).title


def named(control: str) -> tuple[str, ...]:
    """The tests that a control names: the id of a test, or a framework's control such as soc2/CC8.1. Raises QueryInvalid."""
    framework, _, identifier = control.partition("/")
    found: tuple[str, ...] = (control,) if control in tests() else ()
    if framework in frameworks():
        found = next((one.tests for one in frameworks()[framework].controls if one.id == identifier), ())
    if not found:
        raise errors.QueryInvalid(
            f"Name one control: {', '.join(tests())}, or one of {', '.join(frameworks())} such as soc2/CC8.1.",
            control=control[:60],
        )
    return found


@functools.cache
def frameworks() -> dict[str, Framework]:
    """All frameworks by the name of their file with hyphens, such as `pci-dss`."""
    found = {}
    for path in sorted(FRAMEWORKS.glob("*.toml")):
        name = path.stem.replace("_", "-")
        found[name] = msgspec.convert({**tomllib.loads(path.read_text(encoding="utf-8")), "id": name}, Framework)
    return found


def check_framework(name: str) -> None:
    """Raises QueryInvalid for a name that no framework has; the empty one stands for all."""
    if name and name not in frameworks():
        raise errors.QueryInvalid(f"Unknown framework {name[:40]}; known: {', '.join(frameworks())}.")


def controls_of(framework: Framework, tests_run: Iterable[str]) -> list[Control]:
    """The controls of a framework that any of these tests bears on."""
    run = set(tests_run)
    return [control for control in framework.controls if run & set(control.tests)]
