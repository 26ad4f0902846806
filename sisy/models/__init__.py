"""The models of sisy, and what creates tasks: `from sisy.models import Task, task_with_callable`."""

from sisy.models.creation import task_with_callable, taskinfo_with_label
from sisy.models.dashboard import Dashboard
from sisy.models.task import Task
from sisy.rows.heartbeat import Heartbeat
from sisy.rows.lookups import Among
from sisy.rows.run import Run, RunLine, RunStatus
from sisy.rows.worker import Worker

__all__ = [
    "Dashboard",
    "Heartbeat",
    "Run",
    "RunLine",
    "RunStatus",
    "Task",
    "Worker",
    "task_with_callable",
    "taskinfo_with_label",
]

Task._meta.get_field("id").register_lookup(Among)
