"""A visitor's own job: the tag, what the page fetches, and who gets it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.template import engines
from django.test import Client, RequestFactory
from django.utils import timezone

from sisy.live.jobs import Job, job_of, token_of
from sisy.models import Run, RunStatus, Task
from tests.admin_pages import Page

pytestmark = pytest.mark.django_db

NOTE = "tests.project.shop.tasks.note"


def a_run(**columns):
    run = Task.run_once(NOTE).runs.get()
    Run.objects.filter(pk=run.pk).update(**columns)
    run.refresh_from_db()
    return run


def shown(run, user=None, options=""):
    """Return the element that the tag makes, as its attributes."""
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    template = engines["django"].from_string("{% load sisy %}{% sisy_job run " + options + " %}")
    html = template.render({"run": run}, request)
    parsed = Page(type("Response", (), {"content": html.encode()}))
    return next(tag for _name, tag in parsed.tags if "data-sisy-url" in tag), parsed


def test_the_tag_shows_how_far_the_job_is():
    attributes, page = shown(a_run(progress={"fraction": 0.62, "text": "<b>page 5</b>"}))
    assert "62 %" in page.text
    assert "<b>page 5</b>" in page.text
    assert "Waiting for its turn" in page.text
    assert attributes["data-sisy-socket"].startswith("/ws/sisy/job/")


def test_what_the_page_fetches_is_what_the_tag_shows():
    run = a_run(reason="for staff only", errors=[{"traceback": "for staff only"}], result={"for": "staff only"})
    attributes, _page = shown(run)
    response = Client().get(attributes["data-sisy-url"])
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    assert "staff only" not in response.content.decode()
    assert f'id="{attributes["id"]}"' in response.content.decode()


def test_a_job_that_is_over_opens_no_socket_and_may_load_the_page_again():
    run = a_run(status=RunStatus.SUCCESSFUL, finished_at=timezone.now())
    attributes, page = shown(run)
    assert "data-sisy-socket" not in attributes
    assert "Successful" in page.text
    assert not any("data-sisy-reload" in tag for _name, tag in page.tags)
    attributes, page = shown(run, options="reload=True")
    assert not any("data-sisy-reload" in tag for _name, tag in page.tags)  # or it would load itself again for ever
    assert "data-sisy-reload" not in Client().get(attributes["data-sisy-url"]).content.decode()


def test_a_page_loads_itself_again_when_its_job_ends():
    run = a_run()
    attributes, page = shown(run, options="reload=True")
    assert not any("data-sisy-reload" in tag for _name, tag in page.tags)
    Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCESSFUL, finished_at=timezone.now())
    assert "data-sisy-reload" in Client().get(attributes["data-sisy-url"]).content.decode()


def test_who_is_logged_in_is_the_only_one_who_may_watch():
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    address = shown(a_run(), user=ada)[0]["data-sisy-url"]
    statuses = []
    for user in (ada, bob, None):
        client = Client()
        if user is not None:
            client.force_login(user)
        statuses.append(client.get(address).status_code)
    assert statuses == [200, 404, 404]


def test_several_jobs_come_in_one_answer_without_those_that_are_gone():
    tokens = [token_of(Job(run=a_run().pk)) for _ in range(2)]
    assert Client().get(f"/sisy/job/{'+'.join(tokens)}/").content.decode().count("data-sisy-url") == 2
    gone = token_of(Job(run=10**9))
    assert Client().get(f"/sisy/job/{tokens[0]}+made:up+{gone}/").content.decode().count("data-sisy-url") == 1
    assert Client().get(f"/sisy/job/made:up+{gone}/").status_code == 404
    assert Client().post(f"/sisy/job/{tokens[0]}/").status_code == 405


def test_a_run_that_is_gone_is_not_there():
    run = a_run()
    address = shown(run)[0]["data-sisy-url"]
    Run.objects.all().delete()
    assert Client().get(address).status_code == 404


def test_a_token_that_says_something_else_allows_nothing():
    salt = "sisy.live.job"
    signed = [signing.dumps({"run": 1}, salt=salt), signing.dumps(["one", ""], salt=salt), signing.dumps([1, ""])]
    assert [job_of(token) for token in ("", "x", "a:b:c", *signed)] == [None] * 6


def test_a_token_is_good_for_a_day(monkeypatch):
    token = token_of(Job(run=7))
    assert job_of(token) == Job(run=7)
    monkeypatch.setattr("sisy.live.jobs._MAX_AGE", timedelta(seconds=-1))
    assert job_of(token) is None
