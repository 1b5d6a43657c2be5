"""Tables and constraints, no rules. The ledger's own tables are plain SQL (`lineage/sql/ledger.sql`)."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models


class Role(models.TextChoices):
    AUDITOR = "auditor", "Auditor"
    SECURITY = "security", "Security"
    COMPLIANCE = "compliance", "Compliance"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Administrator"
    WITNESS = "witness", "Witness"


class User(AbstractBaseUser):
    """A person who reads evidence. Empty scopes mean everything; `from_at` and `until_at` bound event time."""

    email = models.EmailField(unique=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.AUDITOR)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    environments = ArrayField(models.TextField(), default=list, blank=True)
    from_at = models.DateTimeField(null=True, blank=True)
    until_at = models.DateTimeField(null=True, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "email"


class ApiToken(models.Model):
    """A user's token for the read API: only its SHA-256 is kept."""

    user = models.ForeignKey(User, on_delete=models.PROTECT)
    token_hash = models.BinaryField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True)


class Source(models.Model):
    """A feed: its format, what its token stands for, and what it may assert. The token's SHA-256 is kept."""

    name = models.CharField(max_length=100, unique=True)
    format = models.CharField(max_length=40)
    environment = models.CharField(max_length=100, default="default")
    datasource = models.CharField(max_length=200, blank=True)
    asserts = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    context_roles = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    token_hash = models.BinaryField(unique=True, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True)


class SourceHealth(models.Model):
    """The last that was heard from a source. Derived; the log's custody events are the evidence.

    `usual_seconds` between heartbeats; `pending` items in its spool, not moving since `waiting_since`; `reader` what keeps it
    from reading its database, since `reader_since`.
    """

    source = models.OneToOneField(Source, on_delete=models.PROTECT, primary_key=True)
    heartbeat_at = models.DateTimeField(null=True)
    reported_at = models.DateTimeField(null=True)
    last_sequence = models.BigIntegerField(null=True)
    last_position = models.TextField(blank=True)
    logged_minute = models.BigIntegerField(default=0)
    usual_seconds = models.FloatField(null=True)
    pending = models.BigIntegerField(null=True)
    waiting_since = models.DateTimeField(null=True)
    reader = models.TextField(blank=True, default="")
    reader_since = models.DateTimeField(null=True)


class Identity(models.Model):
    """Whose login is whose, as of a time (imported reference; each import is a configuration event)."""

    datasource = models.CharField(max_length=200)
    db_user = models.CharField(max_length=200)
    person_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=200, blank=True)
    type = models.CharField(max_length=10, default="human")
    as_of = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datasource", "db_user", "as_of"], name="identity_once")]
