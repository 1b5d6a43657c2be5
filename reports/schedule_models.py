"""Tables of schedules: rhythm and next period, what was due, who is sent what. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Cadence(models.TextChoices):
    ONCE = "once", "Once"
    DAILY = "daily", "Every day"
    WEEKLY = "weekly", "Every week"
    MONTHLY = "monthly", "Every month"
    QUARTERLY = "quarterly", "Every quarter"
    YEARLY = "yearly", "Every year"
    CUSTOM = "custom", "Custom"


class Schedule(models.Model):
    """When a kind of report is due. Due periods are rows of ours: a missed tick makes a report late, never lost.

    `period_from` to `period_to` is the next period, due at `next_due_at` (null: nothing more); each begins where the one
    before ends. `once` has no other. Reports are made in the name of `created_by`, who set the schedule last.
    """

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=40)
    cadence = models.CharField(max_length=10, choices=Cadence.choices)
    zone = models.CharField(max_length=60, default="UTC")
    every = models.IntegerField(null=True, blank=True)
    unit = models.CharField(max_length=10, blank=True)
    anchor = models.DateField(null=True, blank=True)
    late_days = models.IntegerField(default=3)
    environment = models.CharField(max_length=100, blank=True)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    period_from = models.DateTimeField(null=True, blank=True)
    period_to = models.DateTimeField(null=True, blank=True)
    next_due_at = models.DateTimeField(null=True, blank=True, db_index=True)
    enabled = models.BooleanField(default=True)
    created_by = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)


class Occurrence(models.Model):
    """One period of a schedule that was due: its report, or in words why there is none. At most one of each period."""

    schedule = models.ForeignKey(Schedule, on_delete=models.PROTECT)
    period_from = models.DateTimeField()
    period_to = models.DateTimeField()
    due_at = models.DateTimeField()
    report = models.ForeignKey("reports.Report", null=True, on_delete=models.PROTECT)
    skipped = models.CharField(max_length=400, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["schedule", "period_from", "period_to"], name="occurrence_once")]
        indexes = [models.Index(fields=["schedule", "-period_to"], name="occurrence_newest")]
