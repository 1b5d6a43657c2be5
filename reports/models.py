"""Tables of the reports: the registry of everything asked for and issued, and the schedules. No rules."""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.fields import ArrayField
from django.db import models

from reports.controls import KINDS


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Being made"
    DRAFT = "draft", "Draft"
    FINAL = "final", "Final"
    BLOCKED = "blocked", "Blocked"
    FAILED = "failed", "Failed"


class Cadence(models.TextChoices):
    ONCE = "once", "Once"
    DAILY = "daily", "Every day"
    WEEKLY = "weekly", "Every week"
    MONTHLY = "monthly", "Every month"
    QUARTERLY = "quarterly", "Every quarter"
    YEARLY = "yearly", "Every year"


class Schedule(models.Model):
    """When a kind of report is due. Due periods are rows of ours: a missed tick makes a report late, never lost.

    `once` covers `period_from` to `period_to`; the others cover the last whole period in UTC before `next_due_at`.
    """

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=40)
    cadence = models.CharField(max_length=10, choices=Cadence.choices)
    environment = models.CharField(max_length=100, blank=True)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    period_from = models.DateTimeField(null=True, blank=True)
    period_to = models.DateTimeField(null=True, blank=True)
    next_due_at = models.DateTimeField(null=True, blank=True, db_index=True)
    enabled = models.BooleanField(default=True)
    created_by = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)


class Report(models.Model):
    """One report: what was asked, where it stands, and the hashes of what was issued.

    `environment` and `datasources` are the effective scope (empty: everything); who may not see all of it may not
    see the report. `sha256` is of the signed file, `unsigned_sha256` of the same file before its signature.
    """

    kind = models.CharField(max_length=40)
    period_from = models.DateTimeField()
    period_to = models.DateTimeField()
    environment = models.CharField(max_length=100, blank=True)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    q = models.TextField(blank=True)
    draft_only = models.BooleanField(default=False)
    schedule = models.ForeignKey(Schedule, null=True, blank=True, on_delete=models.PROTECT)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    reasons = ArrayField(models.TextField(), default=list, blank=True)
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

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schedule", "period_from", "period_to"], name="report_once_a_period")
        ]

    @property
    def number(self) -> str:
        """The name that people cite, such as PA-0007."""
        letters = KINDS[self.kind].letters if self.kind in KINDS else "R"
        return f"{letters}-{self.pk:04d}"

    @property
    def file_stem(self) -> str:
        last = self.period_to - dt.timedelta(microseconds=1)
        return f"{self.kind}_{self.period_from:%Y-%m-%d}_{last:%Y-%m-%d}_{self.number}"
