"""sisy: a scheduler and task runner for Django, on Channels.

`sisy.task` registers a function; a task function may raise `sisy.Retry` and `sisy.Skip`. Everything else is in
`sisy.models`, `sisy.cron`, `sisy.signals` and `sisy.testing`.
"""

from sisy.errors import Retry, Skip
from sisy.registry import task

__version__ = "2.0.0"

__all__ = ["Retry", "Skip", "__version__", "task"]
