"""The shop's tables."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def primary_key() -> models.BigAutoField:
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Ledger",
            fields=[
                ("id", primary_key()),
                ("note", models.CharField(max_length=200)),
                ("task_label", models.CharField(max_length=255)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[("id", primary_key()), ("name", models.CharField(max_length=100))],
        ),
        migrations.CreateModel(
            name="RushOrder",
            fields=[
                (
                    "order_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="shop.order",
                    ),
                ),
                ("fee", models.PositiveIntegerField(default=0)),
            ],
            bases=("shop.order",),
        ),
        migrations.CreateModel(
            name="OrderProxy",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("shop.order",),
        ),
        migrations.CreateModel(
            name="Parcel",
            fields=[
                ("name", models.CharField(max_length=100)),
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Country",
            fields=[
                ("name", models.CharField(max_length=100)),
                ("code", models.CharField(max_length=20, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="HiddenOrder",
            fields=[("id", primary_key()), ("name", models.CharField(max_length=100))],
        ),
    ]
