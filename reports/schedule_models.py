"""Tables of schedules: rhythm and next period, what was due, who is sent what. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from lineage.finding_models import Outgoing, Receiver


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


class Recipient(models.Model):
    """Who is sent the final reports of a schedule: a seat by its e-mail address, or a receiver. Those that ended stay as rows."""

    schedule = models.ForeignKey(Schedule, on_delete=models.PROTECT)
    email = models.EmailField(blank=True)
    receiver = models.ForeignKey(Receiver, null=True, on_delete=models.PROTECT)
    attaches = models.BooleanField(default=False)
    by = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["schedule", "email"],
                condition=models.Q(ended_at=None, receiver=None),
                name="recipient_seat_once",
            ),
            models.UniqueConstraint(
                fields=["schedule", "receiver"], condition=models.Q(ended_at=None), name="recipient_receiver_once"
            ),
        ]

    @property
    def name(self) -> str:
        return self.receiver.name if self.receiver else self.email


class Delivery(Outgoing):
    """One final report for one recipient."""

    report = models.ForeignKey("reports.Report", on_delete=models.PROTECT)
    recipient = models.ForeignKey(Recipient, on_delete=models.PROTECT)
    begun_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["report", "recipient"], name="delivery_once")]
        indexes = [models.Index(fields=["next_at"], name="delivery_due", condition=models.Q(told_at=None))]
