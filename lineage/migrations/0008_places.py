"""Quarantined items read again, checks asked for on a page, and the inventory of databases with their owners."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "places.sql"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0007_access")]
    operations: ClassVar = [
        migrations.RunSQL(SQL.read_text()),
        migrations.CreateModel(
            name="InventoryEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("datasource", models.CharField(max_length=200)),
                ("environment", models.CharField(max_length=100)),
                ("system", models.CharField(blank=True, max_length=100)),
                ("state", models.CharField(default="active", max_length=10)),
                ("note", models.CharField(blank=True, max_length=400)),
                ("as_of", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["datasource", "environment", "as_of"], name="inventory_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Owner",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("datasource", models.CharField(max_length=200)),
                ("relation", models.CharField(blank=True, max_length=200)),
                ("person_id", models.CharField(max_length=200)),
                ("name", models.CharField(max_length=200)),
                ("email", models.CharField(blank=True, max_length=200)),
                ("as_of", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["datasource", "relation", "person_id", "as_of"], name="owner_once")
                ],
            },
        ),
    ]
