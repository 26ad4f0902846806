"""The test project's addresses, and a page on which a visitor waits for the own job."""

from typing import Any

from django.http import HttpResponse
from django.template import engines
from django.urls import path

from sisy.models import Run
from tests.project.urls import urlpatterns as project

PAGE = (
    "{% load sisy %}<!doctype html><title>job</title>{% sisy_media %}"
    "<h1>Your export</h1>{% if run.is_over %}<p id=done>done: {{ run.result }}</p>{% else %}"
    "{% sisy_job run reload=True %}{% endif %}"
)


def export(request: Any, key: int) -> HttpResponse:
    """Show how far a run is."""
    return HttpResponse(engines["django"].from_string(PAGE).render({"run": Run.objects.get(pk=key)}, request))


urlpatterns = [path("export/<int:key>/", export), *project]
