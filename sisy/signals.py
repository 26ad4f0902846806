"""The signals of sisy; receivers are called in the process that made the change, after its commit.

A receiver that raises is logged and does not disturb a run (send_robust). `runs_changed` is the one door by which every
change of a run leaves; the others are the same news one by one, and are sent only while somebody listens.
"""

from django.dispatch import Signal

runs_changed = Signal()
"""Many runs changed together. sender: Run. event: one of "enqueued", "claimed", "started", "finished", "retried",
"released", "rescued", "cancelling". runs: a list of Run instances as they are after the change."""

tasks_changed = Signal()
"""Tasks changed. sender: Task. event: "scheduled", "edited" (all but the timing), "paused", "parked", "exhausted" or
"deleted" (by `delete`). tasks: a list of Task."""

run_started = Signal()
"""A worker is about to call the function. sender: Run. run: the Run."""

run_finished = Signal()
"""A run reached its final state, whichever. sender: Run. run: the Run."""

run_progressed = Signal()
"""A run wrote its progress, at most twice a second, or a line of its log. sender: Run. run: the Run."""

run_failed = Signal()
"""A run ended FAILED or LOST. sender: Run. run: the Run."""

run_retry_scheduled = Signal()
"""An attempt failed and another one will follow. sender: Run. run: the Run, READY again."""

run_missed = Signal()
"""Slots passed while nothing ticked. sender: Run. run: the MISSED Run with its missed_count."""

task_parked = Signal()
"""A task was set aside because of an error in its row. sender: Task. task: the Task with its error."""

task_exhausted = Signal()
"""A task's last run ended, and the task was deleted. sender: Task. task: the deleted Task."""

tick = Signal()
"""A tick ended. sender: the function sisy.scheduler.tick. ticked: the Ticked summary."""
