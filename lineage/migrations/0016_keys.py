"""Dedupe keys that leave PostgreSQL."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "keys.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0015_put_off")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
