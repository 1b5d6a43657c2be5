"""What stands outside the operator's hands: cosignatures and timestamps."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "outside.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0002_ledger")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
