"""A data migration as a project would write it: tasks for each kind of callable, forwards and backwards."""

from django.db import migrations

from sisy.models import task_with_callable, taskinfo_with_label

MODELS = "tests.project.shop.models"
SINGLE = {
    "nightly note": "tests.project.shop.tasks.note",
    "nightly archive": f"{MODELS}.Order.archive",
    "nightly audit": f"{MODELS}.Order.audit",
    "opening": f"{MODELS}.Order.Desk.open",
}
ROWS = ("Order", "Parcel", "Country")


def forwards(apps, schema_editor):
    for label, path in SINGLE.items():
        task_with_callable(path, label=label, schedule="0 3 * * *", userdata={"by": "migration"}).save()
    for name in ROWS:
        for row in apps.get_model("shop", name).objects.order_by("pk"):
            path = f"{MODELS}.{name}.remind"
            task_with_callable(path, label=f"{name} {row.name}", schedule="30 3 * * *", pk_override=row.pk).save()


def backwards(apps, schema_editor):
    tasks = apps.get_model("sisy", "Task").objects
    for label in SINGLE:
        tasks.get(label=label).delete()
    for name in ROWS:
        for row in apps.get_model("shop", name).objects.order_by("pk"):
            label = f"{name} {row.name}"
            if taskinfo_with_label(label)["model_pk"] != row.pk:
                raise AssertionError(f"{label} is for another row")
            tasks.get(label=label).delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial"), ("sisy", "0001_initial")]
    operations = [migrations.RunPython(forwards, backwards)]
