"""Tables of the reports: the registry of everything asked for and issued. No rules."""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.fields import ArrayField
from django.db import models

import reports.review_models  # noqa: F401 - tables of this app, in a module of their own
from reports.controls import KINDS
from reports.exception_models import Judgement, ReportException
from reports.override_models import Override
from reports.schedule_models import Cadence, Delivery, Occurrence, Recipient, Schedule

__all__ = [
    "Cadence", "Delivery", "Judgement", "Occurrence", "Override", "Recipient", "Report", "ReportException", "Schedule",
    "Status",
]  # fmt: skip


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Being made"
    DRAFT = "draft", "Draft"
    AWAITING = "awaiting", "Awaiting sign-off"
    REFUSED = "refused", "Sign-off refused"
    FINAL = "final", "Final"
    BLOCKED = "blocked", "Blocked"
    FAILED = "failed", "Failed"


class Report(models.Model):
    """One report: what was asked, where it stands, and the hashes of what was issued.

    A supplement `amends` a final report, of whose late records it tells; it is its `supplement`-th. `late_to` is the size of the
    log up to which late records were looked for. `supersedes`: the report of the same question and period before it.

    `environment` and `datasources` are the effective scope (empty: everything); who may not see all of it may not
    see the report.
    `control`: what an auditor's request is about. `framework`: whose controls are named (empty: of all).
    `redraws`: the report from whose frozen inputs this one draws its sample again.

    `sha256` is of the signed file, `unsigned_sha256` of the same file before its signature.
    """

    kind = models.CharField(max_length=40)
    period_from = models.DateTimeField()
    period_to = models.DateTimeField()
    environment = models.CharField(max_length=100, blank=True)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    q = models.TextField(blank=True)
    control = models.CharField(max_length=100, blank=True, default="")
    framework = models.CharField(max_length=40, blank=True, default="")
    draft_only = models.BooleanField(default=False)
    engagement = models.CharField(max_length=100, blank=True)
    nonce = models.CharField(max_length=200, blank=True)
    sample = models.CharField(max_length=40, blank=True)
    redraws = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="drawn_again")
    schedule = models.ForeignKey(Schedule, null=True, blank=True, on_delete=models.PROTECT)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    reasons = ArrayField(models.TextField(), default=list, blank=True)
    phase = models.CharField(max_length=40, blank=True, default="")
    as_of = models.BigIntegerField(null=True)
    checkpoint = models.TextField(blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    unsigned_sha256 = models.CharField(max_length=64, blank=True)
    counts = models.JSONField(default=dict, blank=True)
    path = models.TextField(blank=True)
    created_by = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    issued_at = models.DateTimeField(null=True)
    amends = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="supplements")
    supplement = models.PositiveIntegerField(null=True)
    late_to = models.BigIntegerField(null=True)
    supersedes = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="successors")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schedule", "period_from", "period_to"], name="report_once_a_period"),
            models.UniqueConstraint(fields=["amends", "supplement"], name="report_supplements_are_numbered"),
        ]

    @property
    def number(self) -> str:
        """The name that people cite, such as PA-0007, or PA-0007 supplement 1."""
        if self.amends is not None:
            return f"{self.amends.number} supplement {self.supplement}"
        letters = KINDS[self.kind].letters if self.kind in KINDS else "R"
        return f"{letters}-{self.pk:04d}"

    @property
    def file_stem(self) -> str:
        last = self.period_to - dt.timedelta(microseconds=1)
        return f"{self.kind}_{self.period_from:%Y-%m-%d}_{last:%Y-%m-%d}_{self.number.replace(' ', '-')}"
