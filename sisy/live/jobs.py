"""What a visitor may see of the own job: a token that allows it, signed, for a day; and how far a run says it is.

The template tag makes the tokens, the view and the socket for a visitor's own job read them.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core import signing

from sisy.jsondata import printable

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
        return Job(run=int(run), user=str(user))
    except (signing.BadSignature, ValueError, TypeError):
        return None


def progress_of(value: object) -> tuple[float | None, str]:
    """Return how far a run says it is, from 0 to 1, and its words; None when it says nothing that can be shown.

    Args:
        value: the column `progress`, whatever is in it.

    >>> progress_of({"fraction": 0.5, "text": "half"}), progress_of({"fraction": "x"}), progress_of(None)
    ((0.5, 'half'), (None, ''), (None, ''))
    """
    if not isinstance(value, dict):
        return None, ""
    fraction, text = value.get("fraction"), printable(value.get("text", ""), limit=255)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        return None, text
    return float(fraction), text
