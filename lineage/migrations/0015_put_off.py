"""How often a source was told to wait, since the store was behind."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0014_merging")]
    operations: ClassVar = [
        migrations.AddField("sourcehealth", "put_off", models.BigIntegerField(default=0)),
        migrations.AddField("sourcehealth", "put_off_at", models.DateTimeField(null=True)),
    ]
