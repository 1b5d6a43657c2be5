"""The table of overrides: who lets a report stand that does not reconcile, and why. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Override(models.Model):
    """One person asked that a blocked report be issued, another granted it. It holds for these contradictions alone."""

    report = models.OneToOneField("reports.Report", on_delete=models.PROTECT, related_name="override")
    reason = models.CharField(max_length=500)
    contradictions = ArrayField(models.TextField())
    asked_by = models.EmailField()
    asked_at = models.DateTimeField()
    granted_by = models.EmailField(blank=True)
    granted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(granted_by=models.F("asked_by")), name="override_is_granted_by_another"
            )
        ]
