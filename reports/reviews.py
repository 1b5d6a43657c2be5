"""Sign-off of final reports: the steps, whose turn it is, the acts, and what happens when nobody acts.

A signature is the installation's seal over what a named person did while signed in (docs/sign-off.md). Each act and each refusal
is a `sign_off` record; the record of an act and its row are written in one transaction.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from lineage import access, configuration, durable, errors, ledger
from lineage.access import Viewer
from lineage.events import Custody, Event
from lineage.models import User
from reports import outcomes, requests, review_plans, signing, stamps, subjects
from reports.models import Report, Status
from reports.review_models import Act, Part, SignOff

WORDS_MOST = 300
LATE = "sign-off-late"
EMPTY_WORDS = (
    "Nothing that the tests look at occurred. Approved because empty, as the sign-off plan says; nobody looked at it."
)
SEAL_WORDS = (
    "This is the seal of the installation (report certificate) over what this person did while signed in. "
    "The person holds no key of their own."
)


def begin(report: Report, folder: Path, conclusion: str) -> list[SignOff]:
    """The steps that a report needs before it is final, made once: a retry finds them as they were. It awaits them from now on.

    `report` has its status and time of issue and is not saved here.
    """
    plan = review_plans.of(report)
    steps = list(report.sign_offs.all())
    if not steps and (plan is None or report.status != Status.FINAL):
        return []
    if not steps and plan is not None:
        is_empty = plan.approve_if_empty and conclusion == outcomes.NOT_OCCURRED
        named = subjects.of(folder)
        steps = SignOff.objects.bulk_create(
            _step(report, number, asked, plan.set_by, named, is_empty) for number, asked in enumerate(plan.steps, 1)
        )
    if report.status == Status.FINAL and any(step.act == Act.WAITING for step in steps):
        report.status = Status.AWAITING
    return steps


def _step(
    report: Report, number: int, asked: Mapping[str, Any], by: str, named: frozenset[str], is_empty: bool
) -> SignOff:
    issued_at = report.issued_at or report.created_at
    step = SignOff(
        report=report, position=number, part=asked["part"], person=asked["person"], second=asked["second"], plan_by=by,
        due_at=issued_at + dt.timedelta(days=asked["days"]),
        barred=[email for email in (asked["person"], asked["second"]) if email and named & subjects.names_of(email)],
    )  # fmt: skip
    if is_empty:
        step.act, step.acted_at, step.words = Act.EMPTY, issued_at, EMPTY_WORDS
    return step


def announce(report: Report) -> None:
    """After a report was issued: that it was approved because it is empty is a record like every other act."""
    empty = report.sign_offs.filter(act=Act.EMPTY)
    if empty.exists():
        empty.update(sha256=report.sha256)
        ledger.record_decision(
            "sign_off",
            decided_by="touchstone",
            subject=_subject(report),
            transition="approved because empty",
            purpose=EMPTY_WORDS,
        )


def turn(steps: Sequence[SignOff]) -> SignOff | None:
    """The step whose turn it is: the first that waits."""
    return next((step for step in steps if step.act == Act.WAITING), None)


def signers(step: SignOff) -> list[str]:
    """Who may sign it now: the named person, and the second once it is late or the person is a subject of the population."""
    stands_in = step.escalated_at is not None or step.person in step.barred
    return [email for email in (step.person, step.second if stands_in else "") if email and email not in step.barred]


def is_for(viewer: Viewer, step: SignOff) -> bool:
    return viewer.email.lower() in [email.lower() for email in signers(step)]


def sign(
    viewer: Viewer, report_id: int, words: str, seen: str, signed_in: Mapping[str, str], now: dt.datetime
) -> SignOff:
    """Signs the step whose turn it is, as `viewer`, who looked at the file with the SHA-256 `seen`.

    Raises NotFound, SignOffRefused and ReportFailed; what is refused is recorded, and nothing is signed.
    """
    with _acting(viewer, report_id, seen) as (report, step):
        step.words, step.seen_sha256 = _said(words), seen
        _act(step, Act.SIGNED, viewer, signed_in, now)
        path = Path(settings.DATA_DIR) / report.path
        file = path.with_name(f"{report.file_stem}.signed-{step.position}.pdf")
        body = signing.approve(path.read_bytes(), stamps.field_of(step.position), drawn(step), reason_of(step))
        durable.replace(file, body)
        step.sha256, step.file = hashlib.sha256(body).hexdigest(), str(file.relative_to(settings.DATA_DIR))
        step.save()
        steps = list(report.sign_offs.all())
        report.status = Status.AWAITING if turn(steps) else Status.FINAL
        report.sha256, report.path = step.sha256, step.file
        _retell(report, steps, path.with_suffix(".json"))
        _carry(path.with_suffix(".zip"), file.with_suffix(".zip"))
        report.save(update_fields=["status", "sha256", "path"])
        late = ", late" if now > step.due_at else ""
        _record(
            report, viewer.email, f"signed as {label(step)}, step {step.position} of {len(steps)}{late}", told(step)
        )
        if report.status == Status.FINAL:
            _record(report, "touchstone", "signed by all: final", "")
    return step


def refuse(
    viewer: Viewer, report_id: int, words: str, seen: str, signed_in: Mapping[str, str], now: dt.datetime
) -> SignOff:
    """Sends the report back with a reason: it is not final, and nobody signs it any more. Raises as `sign` does."""
    with _acting(viewer, report_id, seen) as (report, step):
        step.words, step.seen_sha256 = _said(words), seen
        _act(step, Act.REFUSED, viewer, signed_in, now)
        step.save()
        report.status = Status.REFUSED
        report.reasons = [*report.reasons, f"Sent back by {step.acted_by} ({label(step)}): {step.words}"]
        report.save(update_fields=["status", "reasons"])
        _record(report, viewer.email, f"sent back as {label(step)}", told(step))
    return step


def _act(step: SignOff, act: Act, viewer: Viewer, signed_in: Mapping[str, str], now: dt.datetime) -> None:
    step.act, step.acted_by, step.acted_at, step.signed_in = act, viewer.email, now, dict(signed_in)


@contextlib.contextmanager
def _acting(viewer: Viewer, report_id: int, seen: str) -> Iterator[tuple[Report, SignOff]]:
    """The locked report and the step whose turn it is, for somebody who may act on it; whatever is refused is recorded."""
    if viewer.role not in review_plans.SIGNERS:
        raise errors.AccessDenied("Reports are signed by security, compliance and administrators. Nothing was signed.")
    report = requests.one(viewer, report_id)
    try:
        with transaction.atomic():
            report = Report.objects.select_for_update(of=("self",)).get(pk=report.pk)
            steps = list(report.sign_offs.all())
            step = turn(steps) if report.status == Status.AWAITING else None
            if step is None:
                raise errors.SignOffRefused("This report waits for nobody's signature. Nothing was signed.")
            _expect_signer(viewer, report, step, steps)
            if seen != report.sha256:
                raise errors.SignOffRefused(
                    "The file is another one than you looked at. Look again; nothing was signed."
                )
            yield report, step
    except errors.TouchstoneError as error:
        _record(report, viewer.email, "refused", error.code)
        raise


def _expect_signer(viewer: Viewer, report: Report, step: SignOff, steps: Sequence[SignOff]) -> None:
    email = viewer.email.lower()
    if email in [done.acted_by.lower() for done in steps if done.act != Act.WAITING]:
        raise errors.SignOffRefused(
            "You signed this report already: the next step is another person's. Nothing was signed."
        )
    is_named = email in (step.person.lower(), step.second.lower())
    if is_named and subjects.of(_folder(report)) & subjects.names_of(email):
        raise errors.SignOffRefused(
            "You acted, were acted for, or asked for or gave an approval in what this report covers, so you do not sign it. "
            "Nothing was signed."
        )
    if not is_for(viewer, step):
        raise errors.SignOffRefused(
            f"It is the turn of {' or '.join(signers(step)) or 'nobody who may sign'} ({label(step)}). Nothing was signed."
        )


def _folder(report: Report) -> Path:
    return (Path(settings.DATA_DIR) / report.path).parent


def name_another(viewer: Viewer, report_id: int, email: str, reason: str) -> SignOff:
    """Names somebody else for the step whose turn it is: a configuration record. Raises as `sign` does, and QueryInvalid."""
    report = requests.one(viewer, report_id)
    with configuration.asked(viewer.email, f"sign-off of {report.number}"), transaction.atomic():
        if not review_plans.may(viewer):
            raise errors.AccessDenied("Who signs reports is said by compliance and administrators.")
        why = review_plans.said(reason)
        report = Report.objects.select_for_update(of=("self",)).get(pk=report.pk)
        steps = list(report.sign_offs.all())
        step = turn(steps) if report.status == Status.AWAITING else None
        if step is None:
            raise errors.SignOffRefused("This report waits for nobody's signature. Nothing was changed.")
        user = review_plans.signer(email)
        _expect_other(user, report, steps)
        old, step.person = step.person, user.email
        step.second = "" if step.second.lower() == user.email.lower() else step.second
        step.save()
        configuration.record(
            viewer.email, f"sign-off of {report.number}", {label(step): old}, {label(step): step.person}, why
        )
    return step


def _expect_other(user: User, report: Report, steps: Sequence[SignOff]) -> None:
    """Raises SignOffRefused unless the person is in no other step, is no subject, and sees the whole report."""
    current = turn(steps)
    taken = {
        name.lower() for step in steps if step is not current for name in (step.person, step.second, step.acted_by)
    }
    if user.email.lower() in taken:
        raise errors.SignOffRefused(
            "This person stands in another step already. Nothing was changed.", person=user.email
        )
    if subjects.of(_folder(report)) & subjects.names_of(user.email):
        raise errors.SignOffRefused(
            "This person is a subject of what the report covers. Nothing was changed.", person=user.email
        )
    if not requests.visible(access.viewer_of(user)).filter(pk=report.pk).exists():
        raise errors.SignOffRefused(
            "The report reaches beyond this person's scope. Nothing was changed.", person=user.email
        )


def escalate(now: dt.datetime) -> int:
    """Steps whose turn it is and whose time is over: their second person may sign from now on, and receivers are told. How many."""
    count = 0
    for report_id in Report.objects.filter(status=Status.AWAITING).values_list("pk", flat=True):
        with transaction.atomic():
            locked = Report.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=report_id)
            report = locked.filter(status=Status.AWAITING).first()
            step = turn(list(report.sign_offs.all())) if report else None
            if report is None or step is None or step.due_at > now or step.escalated_at is not None:
                continue
            step.escalated_at = now
            step.save(update_fields=["escalated_at"])
            second = f"; {step.second} may sign too" if step.second else "; no second person is named"
            words = f"{label(step)} {step.person} did not sign {report.number} until {step.due_at:%Y-%m-%d %H:%M} UTC{second}"
            _record(report, "touchstone", "escalated", words)
            ledger.record(
                Event(
                    kind="custody",
                    environment=report.environment or None,
                    custody=Custody(type="finding", subject=LATE, detail=f"{words}.", transition="begins"),
                )
            )
            count += 1
    return count


def waiting(viewer: Viewer) -> QuerySet[SignOff]:
    """Steps of reports in scope that somebody has still to sign, by their due time."""
    open_ = SignOff.objects.select_related("report", "report__schedule").filter(act=Act.WAITING)
    return open_.filter(report__in=requests.visible(viewer).filter(status=Status.AWAITING)).order_by("due_at", "pk")


def label(step: SignOff) -> str:
    return Part(step.part).label.lower()


def how(signed_in: Mapping[str, str]) -> str:
    """How somebody was known when they acted, in words."""
    match signed_in.get("by"):
        case "openid":
            told = signed_in.get("methods")
            factor = f"methods that the provider told of: {told}" if told else "the provider told of no second factor"
            return (
                f"signed in by OpenID Connect, issuer {signed_in['issuer']}, subject {signed_in['subject']}; {factor}"
            )
        case "password":
            return "signed in by password; no second factor"
    return "signed in; by what is not known"


def told(step: SignOff) -> str:
    """What a person did, in one sentence for the record."""
    return f"“{step.words}” {step.acted_by}, {how(step.signed_in)}"


def drawn(step: SignOff) -> list[str]:
    """The lines of the signature as it is seen in the file."""
    entered = step.signed_in.get("at")
    at = f" at {dt.datetime.fromisoformat(entered):%Y-%m-%d %H:%M:%S}" if entered else ""
    return [
        f"{Part(step.part).label}: signed by {step.acted_by} on {step.acted_at:%Y-%m-%d at %H:%M:%S} UTC",
        f"“{step.words}”",
        f"S{how(step.signed_in)[1:]}{at}.",
        SEAL_WORDS,
    ]


def reason_of(step: SignOff) -> str:
    """What PDF readers show as the reason of the signature."""
    return f"Seal over the sign-off of {step.acted_by} as {label(step)}: {step.words}"


def printed(report: Report) -> list[dict[str, Any]]:
    """The steps as the file tells them before anybody has signed: whoever is named later is in the log, not there."""
    return [
        {
            "number": str(step.position), "part": Part(step.part).label, "person": step.person, "second": step.second,
            "barred": ", ".join(step.barred), "due": f"{step.due_at:%Y-%m-%d %H:%M}", "plan_by": step.plan_by,
            "is_empty": step.act == Act.EMPTY, "words": step.words,
        }
        for step in report.sign_offs.all()
    ]  # fmt: skip


def _said(words: str) -> str:
    text = " ".join(words.split())
    if not text or len(text) > WORDS_MOST or "\0" in text:
        raise errors.SignOffRefused(
            f"Say in up to {WORDS_MOST} characters what you looked at, or why you send it back. Nothing was signed.",
            words="missing or too long",
        )
    return text


def _subject(report: Report) -> str:
    return f"{report.number} sha256:{report.sha256}"


def _record(report: Report, who: str, transition: str, purpose: str) -> None:
    ledger.record_decision(
        "sign_off", decided_by=who, subject=_subject(report), transition=transition, purpose=purpose or None
    )


def summary(steps: Sequence[SignOff]) -> list[dict[str, Any]]:
    """The steps for programs: who was asked, who did what when, and the file that has it."""
    return [
        {
            "step": step.position, "part": step.part, "person": step.person, "second": step.second or None, "due_at": step.due_at,
            "act": step.act or "waiting", "by": step.acted_by or None, "at": step.acted_at, "words": step.words or None,
            "signed_in": step.signed_in or None, "seen_sha256": step.seen_sha256 or None, "sha256": step.sha256 or None,
        }
        for step in steps
    ]  # fmt: skip


def _carry(archive: Path, beside: Path) -> None:
    """The ZIP of what is too large for the PDF, where there is one, goes by the name of the new file too; it is the same."""
    if archive.exists():
        with contextlib.suppress(FileExistsError):
            os.link(archive, beside)


def _retell(report: Report, steps: Sequence[SignOff], before: Path) -> None:
    """Writes the JSON beside the file anew: status, file and steps are those of now."""
    told = msgspec.json.decode(before.read_bytes())
    file = Path(settings.DATA_DIR) / report.path
    told |= {"status": report.status, "sign_off": summary(steps)}
    told["pdf"] |= {"file": file.name, "sha256": report.sha256}
    durable.replace(file.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(told)))
