"""Tables of sign-off: what is asked for of which reports, and each step of each report. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Part(models.TextChoices):
    """As what somebody signs, in the order in which it is done."""

    PREPARER = "preparer", "Preparer"
    OWNER = "owner", "Control owner"
    APPROVER = "approver", "Approver"


class Act(models.TextChoices):
    WAITING = "", "Waiting"
    SIGNED = "signed", "Signed"
    EMPTY = "empty", "Approved because empty"
    REFUSED = "refused", "Sent back"


class SignOffPlan(models.Model):
    """The steps that reports of a kind, or of one schedule, need: `steps` are {part, person, second, days} in their order.

    `days` after the issue a step is due, and then its `second` person may sign too.
    """

    kind = models.CharField(max_length=40)
    schedule = models.OneToOneField("reports.Schedule", null=True, on_delete=models.CASCADE)
    steps = models.JSONField(default=list)
    approve_if_empty = models.BooleanField(default=False)
    set_by = models.EmailField()
    set_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind"], condition=models.Q(schedule__isnull=True), name="sign_off_plan_of_kind"
            )
        ]


class SignOff(models.Model):
    """One step of a report: who is to sign as what until when, and what they did.

    `seen_sha256` is of the file that they looked at, `sha256` of the one with their signature; `file` is where that lies below
    the data folder. `signed_in` tells how the person was known when they acted; `plan_by` who set what was asked for.
    """

    report = models.ForeignKey("reports.Report", on_delete=models.PROTECT, related_name="sign_offs")
    position = models.PositiveSmallIntegerField()
    part = models.CharField(max_length=10, choices=Part.choices)
    person = models.EmailField()
    second = models.EmailField(blank=True)
    barred = ArrayField(models.EmailField(), default=list, blank=True)
    due_at = models.DateTimeField()
    escalated_at = models.DateTimeField(null=True)
    plan_by = models.EmailField()
    act = models.CharField(max_length=10, choices=Act.choices, blank=True, default=Act.WAITING)
    acted_by = models.EmailField(blank=True)
    acted_at = models.DateTimeField(null=True)
    words = models.TextField(blank=True)
    signed_in = models.JSONField(default=dict, blank=True)
    seen_sha256 = models.CharField(max_length=64, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    file = models.TextField(blank=True)

    class Meta:
        ordering = ["report", "position"]
        constraints = [models.UniqueConstraint(fields=["report", "position"], name="sign_off_step_once")]
