"""Show visitors how far their own job is, live: `{% load sisy %}`, then `{% sisy_media %}` and `{% sisy_job run %}`.

The project's urls.py includes sisy.urls, its ASGI application has sisy.routing.websockets; without sockets the page
polls, without JavaScript it stands still.
"""

from typing import Any

from django import template
from django.forms import Media
from django.utils.safestring import SafeString

from sisy.models import Run
from sisy.views import SCRIPT, job_region

register = template.Library()


@register.simple_tag
def sisy_media() -> SafeString:
    """Load the script and the style of live regions; once a page, in its head."""
    script: Any = SCRIPT
    return Media(css={"all": ["sisy/job.css"]}, js=[script]).render()


@register.simple_tag(takes_context=True)
def sisy_job(context: dict[str, Any], run: Run, *, reload: bool = False) -> SafeString:
    """Show a run's progress and state to the visitor whose job it is.

    Whoever gets the page may watch the run for a day; where somebody is logged in, that user only. So give it the runs
    of this visitor, as you would with any other data.

    Args:
        run: the run to watch.
        reload: whether the page loads itself again when the run is over, to show what came of it.
    """
    user = getattr(context.get("request"), "user", None)
    return job_region(run, user=user, reload=reload)
