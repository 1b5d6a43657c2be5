"""Derived files that questions are answered from."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "extracts.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0018_renewing")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
