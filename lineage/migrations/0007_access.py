"""Seats that end by themselves, tokens with a name, a scope and an end, and tries to sign in."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0006_gateway")]
    operations: ClassVar = [
        *(
            migrations.AddField("user", name, models.DateTimeField(null=True, blank=True))
            for name in ("ends_at", "refused_at")
        ),
        migrations.AddField("apitoken", "name", models.CharField(max_length=100, blank=True, default="")),
        *(
            migrations.AddField("apitoken", name, ArrayField(models.TextField(), default=list, blank=True))
            for name in ("datasources", "environments")
        ),
        *(
            migrations.AddField("apitoken", name, models.DateTimeField(null=True, blank=True))
            for name in ("from_at", "until_at")
        ),
        *(migrations.AddField("apitoken", name, models.DateTimeField(null=True)) for name in ("expires_at", "used_at")),
        migrations.CreateModel(
            "SignInAttempt",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.BinaryField()),
                ("at", models.DateTimeField()),
                ("is_refusal", models.BooleanField(default=False)),
            ],
            options={"indexes": [models.Index(fields=["key", "at"], name="sign_in_attempt_key")]},
        ),
    ]
