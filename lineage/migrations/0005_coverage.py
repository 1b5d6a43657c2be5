"""What is kept to say how complete the sources are."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "coverage.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0004_forgetting")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text())]
