"""The ledger's own tables, triggers and functions."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "ledger.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0001_tables")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
