"""Tables and constraints, no rules. The ledger's own tables are plain SQL (`lineage/sql/ledger.sql`)."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models

import lineage.finding_models  # noqa: F401 - tables of this app, in a module of their own


class Role(models.TextChoices):
    AUDITOR = "auditor", "Auditor"
    SECURITY = "security", "Security"
    COMPLIANCE = "compliance", "Compliance"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Administrator"
    WITNESS = "witness", "Witness"
    SERVICE = "service", "Service"
    MEMBER = "member", "Member"


class User(AbstractBaseUser):
    """A person who reads evidence. Empty scopes mean everything; `from_at` and `until_at` bound event time.

    The seat itself ends at `ends_at`; that it was used afterwards was last recorded at `refused_at`. A service (role) has its
    name in `email`, and no password. `groups` stand in the tokens for gateways beside the role.
    """

    email = models.EmailField(unique=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.AUDITOR)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    environments = ArrayField(models.TextField(), default=list, blank=True)
    groups = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    from_at = models.DateTimeField(null=True, blank=True)
    until_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "email"


class ApiToken(models.Model):
    """A user's token for the read API: only its SHA-256 is kept. Its scope narrows its owner's; `used_at` is to the hour."""

    user = models.ForeignKey(User, on_delete=models.PROTECT)
    name = models.CharField(max_length=100, blank=True, default="")
    token_hash = models.BinaryField(unique=True)
    datasources = ArrayField(models.TextField(), default=list, blank=True)
    environments = ArrayField(models.TextField(), default=list, blank=True)
    from_at = models.DateTimeField(null=True, blank=True)
    until_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)


class SignInAttempt(models.Model):
    """A try to sign in within the last minutes, by the hash of an e-mail address or of a network address; `is_refusal`: put off."""

    key = models.BinaryField()
    at = models.DateTimeField()
    is_refusal = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["key", "at"], name="sign_in_attempt_key")]


class OpenIdAccount(models.Model):
    """The account at an OpenID provider that is a person's, since they first came by it."""

    user = models.ForeignKey(User, on_delete=models.PROTECT)
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)
    bound_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="openid_subject_once"),
            models.UniqueConstraint(fields=["user", "issuer"], name="openid_user_once"),
        ]


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
    from reading its database, since `reader_since`. `put_off`: how often it was told to wait, since the store was behind.
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
    put_off = models.BigIntegerField(default=0)
    put_off_at = models.DateTimeField(null=True)


class Identity(models.Model):
    """Whose login is whose, as of a time (imported reference; each import is a configuration event).

    `owner` is who answers for a service or an agent: the id of a person.
    """

    datasource = models.CharField(max_length=200)
    db_user = models.CharField(max_length=200)
    person_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=200, blank=True)
    type = models.CharField(max_length=10, default="human")
    owner = models.CharField(max_length=200, blank=True, default="")
    as_of = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datasource", "db_user", "as_of"], name="identity_once")]


class InventoryEntry(models.Model):
    """A database that the organisation says it has, as of a time: active or retired (imported reference)."""

    datasource = models.CharField(max_length=200)
    environment = models.CharField(max_length=100)
    system = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=10, default="active")
    note = models.CharField(max_length=400, blank=True)
    as_of = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datasource", "environment", "as_of"], name="inventory_once")]


class Owner(models.Model):
    """Who answers for a database, or for one relation of it, as of a time (imported reference)."""

    datasource = models.CharField(max_length=200)
    relation = models.CharField(max_length=200, blank=True)
    person_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=200, blank=True)
    as_of = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["datasource", "relation", "person_id", "as_of"], name="owner_once")
        ]


class Ticket(models.Model):
    """A ticket of the organisation's tracker as imports said it, the same from `as_of` to `seen_at` (imported reference)."""

    ticket_id = models.CharField(max_length=200)
    as_of = models.DateTimeField()
    seen_at = models.DateTimeField()
    title = models.CharField(max_length=400, blank=True)
    requester = models.CharField(max_length=200, blank=True)
    assignee = models.CharField(max_length=200, blank=True)
    approver = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=100, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    url = models.CharField(max_length=1000, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["ticket_id", "as_of"], name="ticket_once")]


class GuardrailVersion(models.Model):
    """One version of the guardrails, as TOML. Append-only, through `gateway_set_rules` alone; 0 is the built-in default."""

    number = models.IntegerField(primary_key=True)
    text = models.TextField()
    digest = models.CharField(max_length=64)
    by = models.CharField(max_length=254)
    reason = models.TextField()
    at = models.DateTimeField()


class Tag(models.Model):
    """The classes that somebody gave a column; no class: it is none, whatever its name says."""

    datasource = models.CharField(max_length=200)
    relation = models.CharField(max_length=200)
    column = models.CharField(max_length=200)
    classes = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    by = models.CharField(max_length=254)
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datasource", "relation", "column"], name="tag_once")]


class Gateway(models.Model):
    """A gateway as it last said it is. `refused` is the last thing it said that its token does not allow, recorded once."""

    source = models.ForeignKey(Source, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    version = models.CharField(max_length=40, blank=True)
    rules_version = models.IntegerField(null=True)
    rules_digest = models.CharField(max_length=64, blank=True)
    seen_at = models.DateTimeField()
    refused = models.TextField(blank=True)
    refused_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "name"], name="gateway_once")]


class GatewayDatabase(models.Model):
    """A database behind a gateway: what clients dial. `required`: nobody but `other_accounts` may go around, since when."""

    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE)
    name = models.CharField(max_length=200)
    datasource = models.CharField(max_length=200)
    environment = models.CharField(max_length=100)
    host = models.CharField(max_length=255, blank=True)
    port = models.IntegerField(null=True)
    required_since = models.DateTimeField(null=True)
    other_accounts = ArrayField(models.CharField(max_length=63), default=list, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "name"], name="gateway_database_once")]


class DeclaredCatalog(models.Model):
    """The relations, columns and classes that a gateway knows of one database: `[{schema, name, columns: [{name, type, classes}]}]`."""

    database = models.OneToOneField(GatewayDatabase, on_delete=models.CASCADE, primary_key=True)
    relations = models.JSONField()
    at = models.DateTimeField(auto_now=True)


class GatewaySession(models.Model):
    """A live session. The row goes when the gateway names it no more; the log has the record."""

    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE)
    session_id = models.CharField(max_length=100)
    actor = models.JSONField()
    on_behalf_of = models.JSONField(null=True)
    agent = models.JSONField(null=True)
    datasource = models.CharField(max_length=200)
    environment = models.CharField(max_length=100)
    database = models.CharField(max_length=200)
    account = models.CharField(max_length=63)
    client_ip = models.CharField(max_length=64, blank=True)
    app = models.CharField(max_length=200, blank=True)
    purpose = models.TextField(blank=True)
    started_at = models.DateTimeField()
    statements = models.BigIntegerField(default=0)
    last_command = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=40, blank=True)
    last_seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "session_id"], name="gateway_session_once")]


class GatewayKill(models.Model):
    """An order to end a live session, delivered until the gateway names the session no more."""

    gateway = models.ForeignKey(Gateway, on_delete=models.CASCADE)
    session_id = models.CharField(max_length=100)
    by = models.CharField(max_length=254)
    reason = models.TextField()
    at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)


class HeldStatement(models.Model):
    """A statement that waits for a person, or did. Changes through the functions of `sql/gateway.sql` alone.

    `digest` binds text, parameters, database, account and requester. Texts and names go once it has ended (docs/erasure.md).
    """

    request_id = models.CharField(max_length=100, primary_key=True)
    gateway = models.ForeignKey(Gateway, on_delete=models.PROTECT)
    digest = models.CharField(max_length=64)
    session_id = models.CharField(max_length=100)
    requested_by = models.JSONField()
    on_behalf_of = models.JSONField(null=True)
    delegation = models.JSONField(default=list)
    agent = models.JSONField(null=True)
    involved = ArrayField(models.TextField())
    environment = models.CharField(max_length=100)
    datasource = models.CharField(max_length=200)
    database = models.CharField(max_length=200)
    account = models.CharField(max_length=63)
    purpose = models.TextField(blank=True)
    ticket = models.CharField(max_length=200, blank=True)
    statement = models.TextField(null=True)
    redacted = models.TextField(null=True)
    parameters = models.JSONField(null=True)
    effects = models.JSONField(default=list)
    estimated_rows = models.BigIntegerField(null=True)
    plan = models.TextField(null=True)
    rule = models.CharField(max_length=200)
    rule_version = models.IntegerField()
    sentence = models.TextField()
    in_transaction = models.BooleanField(default=False)
    hold_until = models.DateTimeField(null=True)
    asked_rows = models.BigIntegerField(null=True)
    asked_at = models.DateTimeField()
    ask_until = models.DateTimeField()
    state = models.CharField(max_length=10)
    decided_by = models.CharField(max_length=254, null=True)
    decided_at = models.DateTimeField(null=True)
    reason = models.TextField(null=True)
    expires_at = models.DateTimeField(null=True)
    row_cap = models.BigIntegerField(null=True)
    break_glass = models.BooleanField(default=False)
    used_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    reviewed_by = models.CharField(max_length=254, null=True)
    reviewed_at = models.DateTimeField(null=True)
    review_note = models.TextField(null=True)


class SavedSearch(models.Model):
    """A search that somebody keeps. `role`: whom besides the owner it is shown to; "" nobody. Times stay as they were written.

    `scope` is the owner's when it was saved: who sees less is not shown what the owner wrote.
    """

    name = models.CharField(max_length=100)
    owner = models.CharField(max_length=254)
    role = models.CharField(max_length=16, blank=True, default="")
    scope = models.JSONField(default=dict)
    q = models.TextField(blank=True)
    by = models.CharField(max_length=10, default="event")
    since = models.CharField(max_length=40, blank=True, default="")
    until = models.CharField(max_length=40, blank=True, default="")
    environment = models.CharField(max_length=100, blank=True, default="")
    changed_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)
