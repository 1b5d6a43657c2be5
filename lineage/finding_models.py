"""Tables of findings: what is kept of each, how the rules are set, who is told. No rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class FindingRules(models.Model):
    """How the rules of findings are set from a time on, as TOML. Versions are added, never changed."""

    number = models.IntegerField(primary_key=True)
    text = models.TextField()
    digest = models.CharField(max_length=64)
    by = models.CharField(max_length=254)
    reason = models.TextField()
    at = models.DateTimeField(auto_now_add=True)


class Finding(models.Model):
    """A finding that is kept: which records, by which rule, what became of it. Names and sentences are read from the records.

    `about` is a digest of what it is about; `record` the index of its custody record. Derived: the log is the evidence.
    """

    rule = models.CharField(max_length=60)
    about = models.CharField(max_length=64)
    severity = models.CharField(max_length=10)
    environment = models.CharField(max_length=512)
    datasource = models.CharField(max_length=512, null=True)
    occurred_at = models.DateTimeField()
    first_index = models.BigIntegerField()
    last_index = models.BigIntegerField()
    members = ArrayField(models.BigIntegerField())
    records = models.BigIntegerField()
    rows = models.BigIntegerField(null=True)
    digest = models.CharField(max_length=64)
    found_at = models.DateTimeField()
    record = models.BigIntegerField()
    state = models.CharField(max_length=10, default="open")
    verdict = models.CharField(max_length=20, blank=True)
    owner = models.CharField(max_length=254, blank=True)
    triaged_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "about"], name="finding_once")]
        indexes = [
            models.Index(fields=["-first_index", "rule"], name="finding_newest"),
            models.Index(fields=["state", "severity", "rule", "environment", "datasource"], name="finding_counted"),
            models.Index(fields=["occurred_at"], name="finding_when"),
        ]


class FindingProgress(models.Model):
    """Up to which record (exclusive) everything was judged."""

    judged_to = models.BigIntegerField(default=0)


class Receiver(models.Model):
    """Who is told of findings: a webhook or a mail address. Empty lists mean all; `secret` is sealed."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10)
    address = models.CharField(max_length=500)
    secret = models.TextField(blank=True)
    severity = models.CharField(max_length=10, default="high")
    rules = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    environments = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    datasources = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    is_on = models.BooleanField(default=True)
    by = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)


class Outgoing(models.Model):
    """A message to be sent once. The text goes when it was taken; its id stays the same for each try."""

    message_id = models.CharField(max_length=60, unique=True)
    body = models.TextField(null=True)
    tries = models.IntegerField(default=0)
    next_at = models.DateTimeField()
    answer = models.CharField(max_length=300, blank=True)
    told_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True


class Telling(Outgoing):
    """One finding for one receiver."""

    finding = models.ForeignKey(Finding, on_delete=models.PROTECT)
    receiver = models.ForeignKey(Receiver, on_delete=models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["finding", "receiver"], name="telling_once")]
        indexes = [models.Index(fields=["next_at"], name="telling_due", condition=models.Q(told_at=None))]
