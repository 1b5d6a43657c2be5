"""Who is sent the final reports of a schedule, and what was sent."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reports", "0003_samples"), ("lineage", "0012_tickets")]

    operations = [
        migrations.CreateModel(
            name="Recipient",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email", models.EmailField(blank=True, max_length=254)),
                ("attaches", models.BooleanField(default=False)),
                ("by", models.CharField(max_length=254)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "receiver",
                    models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, to="lineage.receiver"),
                ),
                ("schedule", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="reports.schedule")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(ended_at=None, receiver=None),
                        fields=["schedule", "email"],
                        name="recipient_seat_once",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(ended_at=None),
                        fields=["schedule", "receiver"],
                        name="recipient_receiver_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", models.CharField(max_length=60, unique=True)),
                ("body", models.TextField(null=True)),
                ("tries", models.IntegerField(default=0)),
                ("next_at", models.DateTimeField()),
                ("answer", models.CharField(blank=True, max_length=300)),
                ("told_at", models.DateTimeField(null=True)),
                ("begun_at", models.DateTimeField(auto_now_add=True)),
                ("recipient", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="reports.recipient")),
                ("report", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="reports.report")),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(told_at=None), fields=["next_at"], name="delivery_due")],
                "constraints": [models.UniqueConstraint(fields=["report", "recipient"], name="delivery_once")],
            },
        ),
    ]
