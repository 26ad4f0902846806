"""The demo's tasks: what sisy runs, and when. Migrating backwards deletes them.

A project creates its tasks like this, so that they are there wherever it is installed, and once.
"""

import os
from datetime import timedelta
from typing import Any

from django.db import migrations

from sisy.models import Task, task_with_callable

LABELS = (
    "Sample the machine",
    "Watch the load",
    "Watch the disk",
    "Delete old samples",
    "Time the database, five times",
    "Write the handover file",
    "Collect the handover file",
    "Audit the samples",
)


def create_tasks(apps: Any, schema_editor: Any) -> None:
    # A function, every two seconds, and at once for the first time.
    task_with_callable(
        "sisy.demo.tasks.sample_machine",
        label="Sample the machine",
        schedule=timedelta(seconds=2),
        wait_for_schedule=False,
    ).save()

    # A method of two rows. Models have no methods in a migration, so it is named by its path, the row by its key.
    Watch = apps.get_model("sisy_demo", "Watch")
    for label, measure, limit in (
        ("Watch the load", "load", os.cpu_count() or 1),
        ("Watch the disk", "disk_percent", 90),
    ):
        watch = Watch.objects.create(measure=measure, limit=limit)
        task_with_callable(
            "sisy.demo.models.Watch.check_limit",
            label=label,
            schedule=timedelta(seconds=5),
            pk_override=watch.pk,
        ).save()

    # A class method, once a day, with data of its own that the admin can change.
    task_with_callable(
        "sisy.demo.models.Sample.delete_old",
        label="Delete old samples",
        schedule="30 3 * * *",
        userdata={"keep_hours": 24},
    ).save()

    # Five runs; after the last one the task deletes itself, its runs stay.
    Task.run_iterations(
        "sisy.demo.tasks.time_database",
        iterations=5,
        schedule=timedelta(seconds=4),
        label="Time the database, five times",
    )

    # An async function. The sixth field of a schedule is the seconds.
    task_with_callable(
        "sisy.demo.tasks.write_handover",
        label="Write the handover file",
        schedule="* * * * * */15",
    ).save()

    # Looks more often than there is something to collect: now and then a second attempt helps, now and then it fails.
    task_with_callable(
        "sisy.demo.tasks.collect_handover",
        label="Collect the handover file",
        schedule="* * * * * */10",
        max_attempts=2,
        retry_backoff=timedelta(seconds=10),
    ).save()

    # Half a minute of work, every minute: watch it go on, and cancel it, in the admin's overview.
    task_with_callable("sisy.demo.tasks.audit_samples", label="Audit the samples", schedule="* * * * *").save()


def delete_tasks(apps: Any, schema_editor: Any) -> None:
    Task.objects.filter(label__in=LABELS).delete()
    apps.get_model("sisy_demo", "Watch").objects.all().delete()


class Migration(migrations.Migration):
    # On the newest migration of sisy: its real Task is used here, with all its columns.
    dependencies = [("sisy_demo", "0001_initial"), ("sisy", "0001_initial")]
    operations = [migrations.RunPython(create_tasks, delete_tasks)]
