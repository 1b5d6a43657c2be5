"""The control that an auditor's request is about."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("reports", "0008_sign_off_seen")]
    operations: ClassVar = [
        migrations.AddField("report", "control", models.CharField(blank=True, default="", max_length=100)),
    ]
