"""What a page outside of the admin fetches: how far a visitor's own job is. The token in the address is the permission.

urls.py names the addresses; the template tag sisy_job writes them.
"""

from typing import Any, Final

from django.forms import Script
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import get_script_prefix, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from sisy.live.jobs import Job, job_of, progress_of, token_of
from sisy.models import Run
from sisy.routing import JOB_PATH

SCRIPT: Final = Script("sisy/live.js", type="module")
"""What keeps live regions up to date."""

_MOST: Final = 20  # jobs that one request may ask for


@require_safe
@never_cache
def job(request: HttpRequest, tokens: str) -> HttpResponse:
    """Return the region of a visitor's job, or of those of several that are still there and his or her own.

    Args:
        request: of the visitor.
        tokens: one, or several with "+" between them.

    Raises:
        Http404: there is none that this visitor may see.
    """
    regions = []
    for token in tokens.split("+")[:_MOST]:
        allowed = job_of(token)
        if allowed is None or not allowed.is_for(getattr(request, "user", None)):
            continue
        run = Run.objects.filter(pk=allowed.run).first()
        if run is not None:
            regions.append(_region(run, token=token, reload="reload" in request.GET))
    if not regions:
        raise Http404
    return HttpResponse(SafeString("\n").join(regions))


def job_region(run: Run, *, user: Any, reload: bool) -> SafeString:
    """Return the region of a job, for this user alone if there is one.

    Args:
        run: the run to watch.
        user: who sees the page, or None.
        reload: whether the page loads itself again when the run is over.
    """
    is_somebody = user is not None and user.is_authenticated
    token = token_of(Job(run=run.pk, user=str(user.pk) if is_somebody else ""))
    return _region(run, token=token, reload=reload and not run.is_over)  # what is over when it is shown stays so


def _region(run: Run, *, token: str, reload: bool) -> SafeString:
    fraction, text = progress_of(run.progress)
    context = {
        "run": run,
        "percent": None if fraction is None else round(100 * fraction),
        "text": text,
        "reloads": reload and run.is_over,
    }
    address = f"{reverse('sisy:job', args=[token])}{'?reload' if reload else ''}"
    socket = "" if run.is_over else f"{get_script_prefix()}{JOB_PATH}{token}/"
    return format_html(
        '<div id="sisy-job-{}" class="sisy-job" data-sisy-url="{}" data-sisy-on="run:{}"{}>{}</div>',
        run.pk,
        address,
        run.pk,
        format_html(' data-sisy-socket="{}"', socket) if socket else "",
        render_to_string("sisy/job.html", context),
    )
