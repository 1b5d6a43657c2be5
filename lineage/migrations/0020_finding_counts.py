"""Counts of findings are read from an index, and those of a window found by one."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lineage", "0019_extracts")]

    operations = [
        migrations.AddIndex(
            "finding",
            models.Index(fields=["state", "severity", "rule", "environment", "datasource"], name="finding_counted"),
        ),
        migrations.AddIndex("finding", models.Index(fields=["occurred_at"], name="finding_when")),
    ]
