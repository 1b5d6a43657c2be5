"""The framework whose controls a report names."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("reports", "0009_control")]
    operations: ClassVar = [
        migrations.AddField("report", "framework", models.CharField(blank=True, default="", max_length=40)),
    ]
