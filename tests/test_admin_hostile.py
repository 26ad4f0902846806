"""Texts that were written to do harm, in every place that the admin shows; and a strict Content-Security-Policy."""

import uuid

import pytest
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, Worker
from tests.admin_pages import Page

NOTE = "tests.project.shop.tasks.note"
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>'",
    "</textarea></pre></title><script>alert(1)</script>",
    "{{ 7|add:7 }}{% csrf_token %}%(names)s %s {0} {names}",
    "javascript:alert(1)//&lt;script&gt;",
    "\x1b[2J\x1b]0;owned\x07\x08\x7f\x9b31m",
    "user\u202egnp.exe\u2066 \u2028 \ufeff",
    "\U0001f600\n\r\tx" * 3,
]

pytestmark = pytest.mark.django_db


def put_everywhere(payload):
    """Write a text into every column that the admin shows and a database takes it in."""
    now = timezone.now()
    task, other = Task.run_once(NOTE), Task.run_once(NOTE)
    data = {payload: [payload, {"x": payload}]}
    QuerySet(Task).filter(pk__in=[task.pk, other.pk]).update(
        label=payload, callable=payload, schedule=payload, timezone=payload[:64], instance_pk=payload, error=payload,
        queue=payload[:64], _extra_data=data, enabled=False, instance_db=payload[:64],
    )  # fmt: skip
    worker = Worker.objects.create(
        id=uuid.uuid4(), host=payload, pid=1, version=payload[:32], queues=[payload], concurrency=1,
        started_at=now, seen_at=now,
    )  # fmt: skip
    error = dict.fromkeys(("attempt", "at", "exception", "traceback"), payload)
    Run.objects.update(
        label=payload, callable=payload, instance_pk=payload, instance_db=payload[:64], reason=payload,
        queue=payload[:64], errors=[error], result=data, userdata=data, args=[data], kwargs=data, progress=data,
        worker=worker.pk, status=RunStatus.FAILED, finished_at=now,
    )  # fmt: skip
    return task, Run.objects.first(), worker


def pages(task, run, worker):
    for name, row in (("task", task), ("run", run), ("worker", worker)):
        yield reverse(f"admin:sisy_{name}_changelist")
        yield reverse(f"admin:sisy_{name}_change", args=[row.pk])
        yield reverse(f"admin:sisy_{name}_history", args=[row.pk])
    yield reverse("admin:sisy_task_add")
    yield reverse("admin:sisy_task_delete", args=[task.pk])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_is_only_text(admin_client, payload):
    task, run, worker = put_everywhere(payload)
    for url in pages(task, run, worker):
        response = admin_client.get(url)
        assert response.status_code == 200
        page = Page(response)
        assert page.violations == []
        assert not [tag for tag, attributes in page.tags if attributes.get("src") == "x"]
        assert b"<script>alert" not in response.content


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_in_messages_is_only_text(admin_client, payload):
    task, run, _worker = put_everywhere(payload)
    for url in (
        reverse("admin:sisy_task_verb", args=[task.pk, "run_now"]),
        reverse("admin:sisy_task_verb", args=[task.pk, "resume"]),
        reverse("admin:sisy_run_verb", args=[run.pk, "run_again"]),
    ):
        response = admin_client.post(url, follow=True)
        assert response.status_code == 200
        assert Page(response).violations == []
        assert b"<script>alert" not in response.content


def test_control_characters_are_written_out_where_sisy_shows_text(admin_client):
    _task, run, _worker = put_everywhere("\x1b[31mred\u202e")
    text = Page(admin_client.get(reverse("admin:sisy_run_changelist"))).text
    assert "\\x1b[31mred\\u202e" in text
    assert "\x1b" not in text.replace(str(run), "")


def test_nothing_in_sisys_pages_needs_inline_code_or_styles(admin_client):
    task = Task.run_iterations(NOTE, iterations=3, label="plain")
    run = task.run_asap()
    now = timezone.now()
    worker = Worker.objects.create(
        id=uuid.uuid4(), host="h", pid=1, version="2", concurrency=1, started_at=now, seen_at=now
    )
    for url in pages(task, run, worker):
        response = admin_client.get(url)
        assert Page(response).violations == []
        if "/change/" in url or url.endswith(("/task/", "/run/", "/worker/")):
            assert b'href="/static/sisy/admin.css"' in response.content
