"""Tables of exceptions: what people say of items that deviate, and what they conclude of a test. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Cause(models.TextChoices):
    """Of what sort a cause is; two exceptions of one sort are a cause that recurs."""

    NOT_KNOWN = "", "not known yet"
    DESIGN = "design", "the control, as it is made, does not prevent it"
    NOT_FOLLOWED = "not followed", "the control was not followed"
    FAILED = "failed", "a system that the control needs failed"
    EMERGENCY = "emergency", "an emergency"
    EVIDENCE = "evidence", "it was right, the evidence lacks something"


class ReportException(models.Model):
    """One item of a test that deviates in a report, and what was said of it last. What the report counted stays as it is.

    `item_sha256` is of `item`, which may be longer than an index takes.
    """

    report = models.ForeignKey("reports.Report", on_delete=models.PROTECT, related_name="exceptions")
    test = models.CharField(max_length=100)
    item = models.TextField()
    item_sha256 = models.CharField(max_length=64)
    first_index = models.BigIntegerField(null=True)
    occurred_at = models.DateTimeField()
    deviations = ArrayField(models.TextField())
    owner = models.CharField(max_length=254, blank=True)
    cause_class = models.CharField(max_length=20, choices=Cause.choices, blank=True)
    cause = models.CharField(max_length=900, blank=True)
    response = models.CharField(max_length=900, blank=True)
    due_on = models.DateField(null=True)
    remedied_on = models.DateField(null=True)
    evidence = models.CharField(max_length=500, blank=True)
    said_by = models.EmailField()
    said_at = models.DateTimeField()

    class Meta:
        ordering = ["report", "test", "occurred_at", "pk"]
        constraints = [models.UniqueConstraint(fields=["report", "test", "item_sha256"], name="exception_once_an_item")]


class Judgement(models.Model):
    """What a named person concluded of a test's deviations last; `systematic` or not, and why."""

    report = models.ForeignKey("reports.Report", on_delete=models.PROTECT, related_name="judgements")
    test = models.CharField(max_length=100)
    systematic = models.BooleanField()
    reason = models.CharField(max_length=900)
    said_by = models.EmailField()
    said_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["report", "test"], name="judgement_once_a_test")]
