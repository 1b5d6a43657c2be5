"""New parts of the journal are opened while it is read."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "slots.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0016_keys")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
