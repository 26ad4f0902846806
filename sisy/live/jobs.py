"""Tokens that let a visitor watch one run: signed, for one day, and for one user where somebody is logged in.

The template tag makes them, the view and the socket for a visitor's own job read them.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core import signing

_SALT: Final = "sisy.live.job"
_MAX_AGE: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a token allows.

    Args:
        run: the key of the run that may be watched.
        user: the key of the only user who may, as text; "" for whoever has the token.
    """

    run: int
    user: str = ""

    def is_for(self, user: Any) -> bool:
        """Tell whether this user may watch the run."""
        return not self.user or (bool(user) and user.is_authenticated and str(user.pk) == self.user)


def token_of(job: Job) -> str:
    """Return the token that allows to watch a run."""
    return signing.dumps([job.run, job.user], salt=_SALT)


def job_of(token: str) -> Job | None:
    """Return what a token allows, or None when it was not signed here, is too old, or was changed.

    >>> job_of(token_of(Job(run=98, user="7"))), job_of("made:up")
    (Job(run=98, user='7'), None)
    """
    try:
        run, user = signing.loads(token, salt=_SALT, max_age=_MAX_AGE)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return Job(run=int(run), user=str(user))
