"""The admin: tasks can be made, watched and told what to do; runs and workers can be looked at.

One page of the admin a file (task.py, run.py, worker.py); importing them registers them with Django's default site.
"""

from sisy.admin.dashboard import DashboardAdmin
from sisy.admin.run import RunAdmin
from sisy.admin.task import TaskAdmin
from sisy.admin.worker import WorkerAdmin

__all__ = ["DashboardAdmin", "RunAdmin", "TaskAdmin", "WorkerAdmin"]
