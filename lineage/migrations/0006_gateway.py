"""What the gateways tell and are told: declared databases, live sessions, held statements, guardrails, tags."""

from pathlib import Path
from typing import ClassVar

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "gateway.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("lineage", "0005_coverage"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="GatewayDatabase",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200)),
                ("datasource", models.CharField(max_length=200)),
                ("environment", models.CharField(max_length=100)),
                ("host", models.CharField(blank=True, max_length=255)),
                ("port", models.IntegerField(null=True)),
                ("required_since", models.DateTimeField(null=True)),
                (
                    "other_accounts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=63), blank=True, default=list, size=None
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Gateway",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("version", models.CharField(blank=True, max_length=40)),
                ("rules_version", models.IntegerField(null=True)),
                ("rules_digest", models.CharField(blank=True, max_length=64)),
                ("seen_at", models.DateTimeField()),
                ("refused", models.TextField(blank=True)),
                ("refused_at", models.DateTimeField(null=True)),
                ("source", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="lineage.source")),
            ],
        ),
        migrations.CreateModel(
            name="GuardrailVersion",
            fields=[
                ("number", models.IntegerField(primary_key=True, serialize=False)),
                ("text", models.TextField()),
                ("digest", models.CharField(max_length=64)),
                ("by", models.CharField(max_length=254)),
                ("reason", models.TextField()),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="DeclaredCatalog",
            fields=[
                (
                    "database",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="lineage.gatewaydatabase",
                    ),
                ),
                ("relations", models.JSONField()),
                ("at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.AddField(
            model_name="gatewaydatabase",
            name="gateway",
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="lineage.gateway"),
        ),
        migrations.CreateModel(
            name="GatewayKill",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("session_id", models.CharField(max_length=100)),
                ("by", models.CharField(max_length=254)),
                ("reason", models.TextField()),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("gateway", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="lineage.gateway")),
            ],
        ),
        migrations.CreateModel(
            name="GatewaySession",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("session_id", models.CharField(max_length=100)),
                ("actor", models.JSONField()),
                ("on_behalf_of", models.JSONField(null=True)),
                ("agent", models.JSONField(null=True)),
                ("datasource", models.CharField(max_length=200)),
                ("environment", models.CharField(max_length=100)),
                ("database", models.CharField(max_length=200)),
                ("account", models.CharField(max_length=63)),
                ("client_ip", models.CharField(blank=True, max_length=64)),
                ("app", models.CharField(blank=True, max_length=200)),
                ("purpose", models.TextField(blank=True)),
                ("started_at", models.DateTimeField()),
                ("statements", models.BigIntegerField(default=0)),
                ("last_command", models.CharField(blank=True, max_length=100)),
                ("state", models.CharField(blank=True, max_length=40)),
                ("last_seen_at", models.DateTimeField()),
                ("gateway", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="lineage.gateway")),
            ],
        ),
        migrations.CreateModel(
            name="HeldStatement",
            fields=[
                ("request_id", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("digest", models.CharField(max_length=64)),
                ("session_id", models.CharField(max_length=100)),
                ("requested_by", models.JSONField()),
                ("on_behalf_of", models.JSONField(null=True)),
                ("delegation", models.JSONField(default=list)),
                ("agent", models.JSONField(null=True)),
                ("involved", django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), size=None)),
                ("environment", models.CharField(max_length=100)),
                ("datasource", models.CharField(max_length=200)),
                ("database", models.CharField(max_length=200)),
                ("account", models.CharField(max_length=63)),
                ("purpose", models.TextField(blank=True)),
                ("ticket", models.CharField(blank=True, max_length=200)),
                ("statement", models.TextField(null=True)),
                ("redacted", models.TextField(null=True)),
                ("parameters", models.JSONField(null=True)),
                ("effects", models.JSONField(default=list)),
                ("estimated_rows", models.BigIntegerField(null=True)),
                ("plan", models.TextField(null=True)),
                ("rule", models.CharField(max_length=200)),
                ("rule_version", models.IntegerField()),
                ("sentence", models.TextField()),
                ("in_transaction", models.BooleanField(default=False)),
                ("hold_until", models.DateTimeField(null=True)),
                ("asked_rows", models.BigIntegerField(null=True)),
                ("asked_at", models.DateTimeField()),
                ("ask_until", models.DateTimeField()),
                ("state", models.CharField(max_length=10)),
                ("decided_by", models.CharField(max_length=254, null=True)),
                ("decided_at", models.DateTimeField(null=True)),
                ("reason", models.TextField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("row_cap", models.BigIntegerField(null=True)),
                ("break_glass", models.BooleanField(default=False)),
                ("used_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("reviewed_by", models.CharField(max_length=254, null=True)),
                ("reviewed_at", models.DateTimeField(null=True)),
                ("review_note", models.TextField(null=True)),
                ("gateway", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="lineage.gateway")),
            ],
        ),
        migrations.CreateModel(
            name="Tag",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("datasource", models.CharField(max_length=200)),
                ("relation", models.CharField(max_length=200)),
                ("column", models.CharField(max_length=200)),
                (
                    "classes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                ("by", models.CharField(max_length=254)),
                ("at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("datasource", "relation", "column"), name="tag_once")],
            },
        ),
        migrations.AddConstraint(
            model_name="gatewaydatabase",
            constraint=models.UniqueConstraint(fields=("gateway", "name"), name="gateway_database_once"),
        ),
        migrations.AddConstraint(
            model_name="gateway",
            constraint=models.UniqueConstraint(fields=("source", "name"), name="gateway_once"),
        ),
        migrations.AddConstraint(
            model_name="gatewaysession",
            constraint=models.UniqueConstraint(fields=("gateway", "session_id"), name="gateway_session_once"),
        ),
        migrations.AddField(
            model_name="user",
            name="groups",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=60), blank=True, default=list, size=None
            ),
        ),
        migrations.AlterField(
            model_name="user",
            name="role",
            field=models.CharField(
                choices=[
                    ("auditor", "Auditor"),
                    ("security", "Security"),
                    ("compliance", "Compliance"),
                    ("operator", "Operator"),
                    ("admin", "Administrator"),
                    ("witness", "Witness"),
                    ("service", "Service"),
                    ("member", "Member"),
                ],
                default="auditor",
                max_length=16,
            ),
        ),
        migrations.RunSQL(SQL.read_text()),
    ]
