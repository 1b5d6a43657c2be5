"""Saved searches."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0008_places")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="SavedSearch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("owner", models.CharField(max_length=254)),
                ("role", models.CharField(blank=True, default="", max_length=16)),
                ("scope", models.JSONField(default=dict)),
                ("q", models.TextField(blank=True)),
                ("by", models.CharField(default="event", max_length=10)),
                ("since", models.CharField(blank=True, default="", max_length=40)),
                ("until", models.CharField(blank=True, default="", max_length=40)),
                ("environment", models.CharField(blank=True, default="", max_length=100)),
                ("changed_at", models.DateTimeField()),
                ("deleted_at", models.DateTimeField(null=True)),
            ],
        ),
    ]
