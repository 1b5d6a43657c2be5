"""Who answers for a service or an agent, as the identity register says it."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0012_tickets")]
    operations: ClassVar = [
        migrations.AddField("identity", "owner", models.CharField(blank=True, default="", max_length=200)),
    ]
