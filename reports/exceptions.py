"""What people say of deviations: owner, cause, response, due; and what they conclude of a test. Each word is a record in the log.

Nothing that is said changes what the report counted: an item that was remedied deviated all the same.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.conf import settings
from django.db import transaction

from lineage import configuration, errors
from lineage.access import Viewer
from lineage.erasures import selection
from lineage.models import Role
from reports import controls
from reports.exception_models import Cause, Judgement, ReportException
from reports.models import Report

RESPONDERS = frozenset({Role.COMPLIANCE, Role.SECURITY, Role.ADMIN})
ITEMS_MOST = 200
PRINTED_MOST = 200
FILE = "exceptions.json"
ERASED = "(erased)"
TEXTS = {"owner": 254, "cause": 900, "response": 900, "evidence": 500}
DATES = ("due_on", "remedied_on")
SAID = ("owner", "cause_class", "cause", "response", *DATES, "evidence")


def may(viewer: Viewer) -> bool:
    """Whether the viewer answers for deviations; an auditor reads the answers and gives none."""
    return viewer.sees_values and viewer.role in RESPONDERS


def root(report: Report) -> Report:
    """The report whose exceptions these are: one that only draws its sample again shares those of the first."""
    return report.redraws or report


def say(viewer: Viewer, report: Report, test: str, items: Sequence[str], given: Mapping[str, str]) -> int:
    """Says the same of some deviating items; a field left empty stays as it was. Returns how many were changed.

    Raises AccessDenied and ExceptionInvalid; refusals are recorded, nothing is changed then.
    """
    about = root(report)
    with configuration.asked(viewer.email, f"exceptions of {about.number}"), transaction.atomic():
        allow(viewer)
        fields = _fields(given)
        Report.objects.select_for_update().get(pk=about.pk)
        return sum(_say_one(viewer, about, test, row, fields) for row in _deviating(about, test, items))


def judge(viewer: Viewer, report: Report, test: str, systematic: str, reason: str) -> None:
    """Concludes whether a test's deviations are systematic, and why. Raises AccessDenied and ExceptionInvalid, on record."""
    about = root(report)
    with configuration.asked(viewer.email, f"judgement of {about.number}"), transaction.atomic():
        allow(viewer)
        if systematic not in ("yes", "no"):
            raise errors.ExceptionInvalid("Say whether the deviations are systematic: yes or no.", systematic="unknown")
        why = _text("reason", reason, 900)
        if not why:
            raise errors.ExceptionInvalid("Say why you conclude so. Nothing was changed.", reason="missing")
        _test(about, test)
        Report.objects.select_for_update().get(pk=about.pk)
        found = Judgement.objects.filter(report=about, test=test).first()
        before = _judged(found) if found else None
        said = found or Judgement(report=about, test=test)
        said.systematic, said.reason = systematic == "yes", why
        said.said_by, said.said_at = viewer.email, dt.datetime.now(dt.UTC)
        said.save()
        configuration.record(viewer.email, f"judgement of {test} in {about.number}", before, _judged(said), why)


def allow(viewer: Viewer) -> None:
    """Raises AccessDenied for who gives no answers."""
    if not may(viewer):
        raise errors.AccessDenied("Deviations are answered by compliance, security and administrators.")


def _fields(given: Mapping[str, str]) -> dict[str, Any]:
    """What is said, without what was left empty. Raises ExceptionInvalid."""
    fields: dict[str, Any] = {name: _text(name, given.get(name, ""), most) for name, most in TEXTS.items()}
    fields |= {name: _date(name, given.get(name, "")) for name in DATES}
    fields["cause_class"] = given.get("cause_class", "").strip()
    if fields["cause_class"] not in Cause.values:
        raise errors.ExceptionInvalid(f"The sort of cause is one of {', '.join(filter(None, Cause.values))}.")
    said = {name: value for name, value in fields.items() if value}
    if not said:
        raise errors.ExceptionInvalid("Nothing was said: fill in at least one field. Nothing was changed.")
    return said


def _text(name: str, given: str, most: int) -> str:
    text = " ".join(given.split())
    if len(text) > most or not text.isprintable():
        raise errors.ExceptionInvalid(f"Write the {name} in up to {most} printable characters.", **{name: "length"})
    return text


def _date(name: str, given: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(given.strip()) if given.strip() else None
    except ValueError as error:
        raise errors.ExceptionInvalid("Write the day as 2026-12-01. Nothing was changed.", **{name: "form"}) from error


def _test(report: Report, test: str) -> controls.Test:
    found = controls.tests().get(test)
    if found is None or found not in controls.asked(report.kind, report.control):
        raise errors.ExceptionInvalid(f"{report.number} has no test of this name. Nothing was changed.", test="unknown")
    return found


def _deviating(report: Report, test: str, items: Sequence[str]) -> list[dict[str, Any]]:
    """These items of a test's frozen answer, all of which deviate. Raises ExceptionInvalid for any other."""
    stem = _test(report, test).stem
    wanted = list(dict.fromkeys(items))
    if not 0 < len(wanted) <= ITEMS_MOST:
        raise errors.ExceptionInvalid(
            f"Choose from 1 to {ITEMS_MOST} deviating items. Nothing was changed.", items="count"
        )
    path = (Path(settings.DATA_DIR) / report.path).parent / f"{stem}.items.parquet"
    if not report.path or not path.exists():
        raise errors.ExceptionInvalid(f"The files of {report.number} are not there (any more). Nothing was changed.")
    table = pq.read_table(path)
    found = table.filter(pc.is_in(table["item"], pa.array(wanted, pa.string())))
    rows: list[dict[str, Any]] = found.filter(pc.greater(pc.list_value_length(found["deviations"]), 0)).to_pylist()
    if {row["item"] for row in rows} != set(wanted):
        raise errors.ExceptionInvalid(
            f"Not all of these deviate in {report.number}. Nothing was changed.", items="unknown"
        )
    return rows


def _say_one(viewer: Viewer, report: Report, test: str, row: dict[str, Any], fields: dict[str, Any]) -> bool:
    digest = hashlib.sha256(row["item"].encode()).hexdigest()
    found = ReportException.objects.filter(report=report, test=test, item_sha256=digest).first()
    before = _told(found) if found else None
    said = found or ReportException(
        report=report, test=test, item=row["item"], item_sha256=digest, first_index=row["first_index"],
        occurred_at=row["occurred_at"], deviations=row["deviations"],
    )  # fmt: skip
    for name, value in fields.items():
        setattr(said, name, value)
    after = _told(said)
    if before == after:
        return False
    said.said_by, said.said_at = viewer.email, dt.datetime.now(dt.UTC)
    said.save()
    subject = f"exception {said.pk} of {report.number}, {test}"
    configuration.record(viewer.email, subject, before, after, fields.get("cause"), row.get("datasource"))
    return True


def _told(said: ReportException) -> dict[str, Any]:
    values = {name: getattr(said, name) for name in SAID}
    days = {name: values[name].isoformat() if values[name] else "" for name in DATES}
    return {"item": said.item, "deviations": list(said.deviations)} | values | days


def _judged(said: Judgement) -> dict[str, Any]:
    return {"systematic": said.systematic, "reason": said.reason}


def listed(report: Report) -> list[dict[str, Any]]:
    """Everything that was said of a report's deviations and tests so far, for JSON and print, in order of test and time."""
    about = root(report)
    said = [
        _told(one)
        | {"id": one.pk, "report": about.number, "test": one.test, "record": one.first_index}
        | {"occurred_at": one.occurred_at, "said_by": one.said_by, "said_at": one.said_at}
        for one in ReportException.objects.filter(report=about)
    ]
    concluded = [
        _judged(one) | {"report": about.number, "test": one.test, "said_by": one.said_by, "said_at": one.said_at}
        for one in Judgement.objects.filter(report=about).order_by("test")
    ]
    return [*concluded, *said]


def attach(viewer: Viewer, report: Report, summary: dict[str, Any]) -> None:
    """For the report's page: to each test what was said of it, which sorts of cause recur, and how many wait for an owner."""
    about, today = root(report), dt.datetime.now(dt.UTC).date()
    for test in summary["tests"]:
        said = list(ReportException.objects.filter(report=about, test=test["id"]))
        sorts = Counter(one.cause_class for one in said if one.cause_class)
        owned = sum(1 for one in said if one.owner)
        test["said"] = {
            "exceptions": said,
            "judgement": Judgement.objects.filter(report=about, test=test["id"]).first(),
            "recurring": [(Cause(sort).label, count) for sort, count in sorts.most_common() if count > 1],
            "without_owner": test["counts"]["deviating"] - owned,
            "overdue": sum(1 for one in said if one.due_on and not one.remedied_on and one.due_on < today),
            "may": may(viewer),
            "causes": [choice for choice in Cause.choices if choice[0]],
            "about": about,
        }


def freeze(report: Report, folder: Path) -> list[dict[str, Any]]:
    """What was said of the report that this one goes on from, frozen in its folder when it is first made; else nothing."""
    before = report.amends or report.redraws or report.supersedes
    if before is None:
        return []
    path = folder / FILE
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(listed(before))))
        draft.rename(path)
    said: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes())
    return said


def printed(said: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What was frozen, for the pages of the report: the judgements, and the exceptions."""
    words = dict(Cause.choices)
    exceptions = [dict(one) for one in said if "item" in one]
    for one in exceptions:
        one["cause_class"] = words.get(one["cause_class"], one["cause_class"])
    return {
        "exceptions": exceptions[:PRINTED_MOST],
        "more": exceptions[PRINTED_MOST:],
        "judgements": [dict(one) for one in said if "systematic" in one],
    }


def forget_texts(texts: Sequence[str]) -> None:
    """What was said with one of the texts in it is emptied."""
    for said in ReportException.objects.all():
        named = [name for name in (*TEXTS, "item") if selection.names_one(texts, getattr(said, name))]
        if named:
            ReportException.objects.filter(pk=said.pk).update(**dict.fromkeys(named, ERASED))
    for judged in Judgement.objects.all():
        if selection.names_one(texts, judged.reason):
            Judgement.objects.filter(pk=judged.pk).update(reason=ERASED)
