"""What is derived of a sealed segment can be exchanged."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "renewing.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0017_slots")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
