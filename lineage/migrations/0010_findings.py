"""Findings that are kept, how their rules are set, and who is told of them."""

from typing import ClassVar

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("lineage", "0009_savedsearch"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="FindingProgress",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("judged_to", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="FindingRules",
            fields=[
                ("number", models.IntegerField(primary_key=True, serialize=False)),
                ("text", models.TextField()),
                ("digest", models.CharField(max_length=64)),
                ("by", models.CharField(max_length=254)),
                ("reason", models.TextField()),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Receiver",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
                ("kind", models.CharField(max_length=10)),
                ("address", models.CharField(max_length=500)),
                ("secret", models.TextField(blank=True)),
                ("severity", models.CharField(default="high", max_length=10)),
                (
                    "rules",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                (
                    "environments",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=100), blank=True, default=list, size=None
                    ),
                ),
                (
                    "datasources",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), blank=True, default=list, size=None
                    ),
                ),
                ("is_on", models.BooleanField(default=True)),
                ("by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Finding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("rule", models.CharField(max_length=60)),
                ("about", models.CharField(max_length=64)),
                ("severity", models.CharField(max_length=10)),
                ("environment", models.CharField(max_length=512)),
                ("datasource", models.CharField(max_length=512, null=True)),
                ("occurred_at", models.DateTimeField()),
                ("first_index", models.BigIntegerField()),
                ("last_index", models.BigIntegerField()),
                ("members", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ("records", models.BigIntegerField()),
                ("rows", models.BigIntegerField(null=True)),
                ("digest", models.CharField(max_length=64)),
                ("found_at", models.DateTimeField()),
                ("record", models.BigIntegerField()),
                ("state", models.CharField(default="open", max_length=10)),
                ("verdict", models.CharField(blank=True, max_length=20)),
                ("owner", models.CharField(blank=True, max_length=254)),
                ("triaged_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["-first_index", "rule"], name="finding_newest")],
                "constraints": [models.UniqueConstraint(fields=("rule", "about"), name="finding_once")],
            },
        ),
        migrations.CreateModel(
            name="Telling",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", models.CharField(max_length=60, unique=True)),
                ("body", models.TextField(null=True)),
                ("tries", models.IntegerField(default=0)),
                ("next_at", models.DateTimeField()),
                ("answer", models.CharField(blank=True, max_length=300)),
                ("told_at", models.DateTimeField(null=True)),
                ("finding", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="lineage.finding")),
                ("receiver", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="lineage.receiver")),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("told_at", None)), fields=["next_at"], name="telling_due")
                ],
                "constraints": [models.UniqueConstraint(fields=("finding", "receiver"), name="telling_once")],
            },
        ),
    ]
