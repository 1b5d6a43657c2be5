"""Erasure, hold and retention."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "forgetting.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0003_outside")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
