"""Neighbouring segments become one."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "merging.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0013_identity_owner")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
