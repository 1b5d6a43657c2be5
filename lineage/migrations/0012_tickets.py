"""Tickets of the organisation's tracker, as imports said them."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("lineage", "0011_openid")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Ticket",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ticket_id", models.CharField(max_length=200)),
                ("as_of", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("title", models.CharField(blank=True, max_length=400)),
                ("requester", models.CharField(blank=True, max_length=200)),
                ("assignee", models.CharField(blank=True, max_length=200)),
                ("approver", models.CharField(blank=True, max_length=200)),
                ("status", models.CharField(blank=True, max_length=100)),
                ("opened_at", models.DateTimeField()),
                ("closed_at", models.DateTimeField(null=True)),
                ("url", models.CharField(blank=True, max_length=1000)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("ticket_id", "as_of"), name="ticket_once")],
            },
        ),
    ]
