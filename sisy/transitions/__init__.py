"""Every change of a Run's status and of a Task's next_run, each a guarded UPDATE or one batch of them.

The models' verbs, the roles and the worker call these functions; nothing else writes those columns. A transition states
in its WHERE what it leaves, a loser notices by the count and returns. What changed is announced after the commit.

- `planning`: due tasks -> runs; a task's next slot; ad hoc runs; pause, resume, park
- `claims`: READY -> RUNNING: claim, start, renew
- `endings`: RUNNING -> a final state or the next attempt; cancel; deleting what is used up or old
- `returns`: RUNNING -> READY or an end without an outcome: release, decline, expire, rescue
"""
