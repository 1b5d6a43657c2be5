"""The framework whose controls a report names, and what is being done while it is made."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("reports", "0009_control")]
    operations: ClassVar = [
        migrations.AddField("report", "framework", models.CharField(blank=True, default="", max_length=40)),
        migrations.AddField("report", "phase", models.CharField(blank=True, default="", max_length=40)),
    ]
