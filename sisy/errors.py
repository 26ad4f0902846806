"""Every error that sisy raises.

All of them are children of SisyError; those about bad input are also ValueErrors, so that code which only knows
Python's own exceptions can catch them. A text says what was given, why it was refused, and what to do next.
"""


class SisyError(Exception):
    """The parent of all errors of sisy.

    Attributes:
        parks_task: whether no run of the task can succeed until its row or its code is mended.
    """

    parks_task = False


class InvalidInput(SisyError, ValueError):
    """A value given to sisy was refused; nothing was stored.

    Args:
        message: what was given, why it was refused, what to do next.
        field: the name of the Task field or argument at fault, or None when it is about several.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidCallable(InvalidInput):
    """The callable can't be stored as a path and called again in a worker."""


class CallableNotFound(InvalidCallable):
    """The dotted path does not lead to anything that can be called."""


class CallableNotAllowed(InvalidCallable):
    """SISY["ALLOWED_CALLABLES"] is set and does not cover the path."""


class InvalidSchedule(InvalidInput):
    """The schedule or its time zone can't be read, or never fires."""


class InvalidTime(InvalidInput):
    """An instant or a duration is naive, in the past, or contradicts another one."""


class InvalidUserdata(InvalidInput):
    """userdata is not a dict of strict JSON, or it is too large."""


class InvalidSetting(InvalidInput):
    """A key or a value in settings.SISY is wrong."""


class TaskGone(SisyError):
    """The task's row does not exist any more: it has used up its runs, or somebody deleted it."""


class TaskExhausted(SisyError):
    """The task has no iteration left, so no further run can be created."""


class TaskParked(SisyError):
    """The task was set aside because of an error in its row; it runs again once that is mended."""


class TargetGone(SisyError):
    """The model row whose method should run does not exist any more."""


class InvalidResult(SisyError):
    """What a task function returned can't be stored as JSON; the run is successful without it."""


class SisyTimezoneWarning(UserWarning):
    """A pytz time zone was attached with tzinfo= instead of localize(), which gives the wrong offset."""


class TimedOut(SisyError):
    """A run was stopped because its function ran longer than the task's timeout."""


class Cancelled(SisyError):
    """A run was stopped because somebody cancelled it while its function ran."""


class Retry(SisyError):
    """Raised by a task function: run this attempt again later.

    Args:
        delay: seconds (or a timedelta) until the next attempt; None for the task's own backoff.
    """

    def __init__(self, message: str = "", *, delay: object = None) -> None:
        super().__init__(message or "the task asked to be run again")
        self.delay = delay


class Skip(SisyError):
    """Raised by a task function: there is nothing to do; the run ends SKIPPED with this reason."""
