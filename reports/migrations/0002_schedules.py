"""Schedules of any rhythm and zone, their next period, and one row for each period that was due."""

import django.db.models.deletion
from django.db import migrations, models

NEXT_PERIODS = """
update reports_schedule set
    period_to = next_due_at,
    period_from = (next_due_at at time zone 'UTC' - case cadence
        when 'daily' then interval '1 day' when 'weekly' then interval '7 days' when 'monthly' then interval '1 month'
        when 'quarterly' then interval '3 months' else interval '1 year' end) at time zone 'UTC'
where cadence <> 'once' and next_due_at is not null
"""
KNOWN = """
insert into reports_occurrence (schedule_id, period_from, period_to, due_at, report_id, skipped)
select schedule_id, period_from, period_to, period_to, id, '' from reports_report where schedule_id is not null
"""


class Migration(migrations.Migration):
    dependencies = [("reports", "0001_initial")]

    operations = [
        migrations.AddField("schedule", "zone", models.CharField(max_length=60, default="UTC")),
        migrations.AddField("schedule", "every", models.IntegerField(null=True, blank=True)),
        migrations.AddField("schedule", "unit", models.CharField(max_length=10, blank=True, default=""), False),
        migrations.AddField("schedule", "anchor", models.DateField(null=True, blank=True)),
        migrations.AddField("schedule", "late_days", models.IntegerField(default=3)),
        migrations.AlterField(
            "schedule",
            "cadence",
            models.CharField(
                choices=[
                    ("once", "Once"),
                    ("daily", "Every day"),
                    ("weekly", "Every week"),
                    ("monthly", "Every month"),
                    ("quarterly", "Every quarter"),
                    ("yearly", "Every year"),
                    ("custom", "Custom"),
                ],
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="Occurrence",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("period_from", models.DateTimeField()),
                ("period_to", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("skipped", models.CharField(blank=True, max_length=400)),
                (
                    "report",
                    models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, to="reports.report"),
                ),
                (
                    "schedule",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="reports.schedule"),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["schedule", "-period_to"], name="occurrence_newest")],
                "constraints": [
                    models.UniqueConstraint(fields=["schedule", "period_from", "period_to"], name="occurrence_once")
                ],
            },
        ),
        migrations.RunSQL(NEXT_PERIODS, migrations.RunSQL.noop),
        migrations.RunSQL(KNOWN, migrations.RunSQL.noop),
    ]
