"""What is kept to say how complete the sources are."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "coverage.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0004_forgetting")]
    operations: ClassVar = [
        *(
            migrations.AddField("sourcehealth", name, field)
            for name, field in (
                ("usual_seconds", models.FloatField(null=True)),
                ("pending", models.BigIntegerField(null=True)),
                ("waiting_since", models.DateTimeField(null=True)),
                ("reader", models.TextField(blank=True, default="")),
                ("reader_since", models.DateTimeField(null=True)),
            )
        ),
        migrations.RunSQL(SQL.read_text()),
    ]
