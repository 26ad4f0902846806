"""The sockets of live pages: who is let in, what they are told, how seldom, and that they take nothing."""

import asyncio
import json
import time

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client

from sisy import layer, sender
from sisy.live import sockets
from sisy.live.hub import hub_of_this_loop
from sisy.live.jobs import Job, token_of
from sisy.live.sockets import BUSY_APART, PAGES_APART
from sisy.live.turns import PAGES, turns_of_this_loop
from sisy.messages import changed
from sisy.routing import JOB_PATH, LIVE_PATH, websockets
from tests.flow.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

HOST = [(b"host", b"example.com"), (b"origin", b"https://example.com")]
application = URLRouter(websockets)


def cookie_of(user):
    client = Client()
    client.force_login(user)
    return (b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())


def staff(*permissions, name="ada", **fields):
    user = User.objects.create_user(name, is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@sync_to_async
def cookie(*permissions, **fields):
    return cookie_of(staff(*permissions, **fields))


def socket(*headers, path=LIVE_PATH, origin=HOST):
    return WebsocketCommunicator(application, path, headers=[*origin, *headers])


async def until(page, *topics):
    """Read frames until one names these topics; return it."""
    while True:
        frame = json.loads(await page.receive_from(timeout=5))
        if set(topics) <= set(frame.get("changed", [])):
            return frame


@pytest.mark.parametrize("permission", ["view_dashboard", "view_task", "view_run", "view_worker"])
async def test_staff_who_may_look_are_let_in(permission):
    page = socket(await cookie(permission))
    assert (await page.connect())[0]
    await page.disconnect()


async def test_nobody_else_is_let_in():
    for headers in (
        [],
        [await cookie()],
        [await cookie("view_dashboard", name="bob", is_active=False)],
        [(b"cookie", b"sessionid=madeup")],
    ):
        assert not (await socket(*headers).connect())[0]


@pytest.mark.parametrize(
    "origin",
    [
        [(b"host", b"example.com")],
        [(b"host", b"example.com"), (b"origin", b"https://evil.example")],
        [(b"host", b"example.com"), (b"origin", b"https://example.com:8443")],
        [(b"host", b"example.com"), (b"origin", b"null")],
        [(b"host", b"example.com"), (b"origin", b"https://example.com:port")],
    ],
)
async def test_a_page_of_another_site_is_refused(origin):
    assert not (await socket(await cookie("view_run"), origin=origin).connect())[0]


async def test_a_trusted_origin_is_let_in(settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://*.example.org"]
    origin = [(b"host", b"internal"), (b"origin", b"https://www.example.org")]
    page = socket(await cookie("view_run"), origin=origin)
    assert (await page.connect())[0]
    await page.disconnect()


async def test_changes_of_this_process_are_told_at_once_and_then_together():
    page = socket(await cookie("view_run"))
    await page.connect()
    assert json.loads(await page.receive_from()) == {"live": False}  # nobody here runs tasks, no layer reaches others
    layer.publish(changed([1], [2]))
    assert await until(page, "run:1") == {"changed": ["run:1", "task:2"], "pause": 0.5}
    for key in range(3, 50):
        layer.publish(changed([key]))
    layer.publish(changed(workers=True))
    frame = await until(page, "worker")
    assert len(frame["changed"]) == 48
    assert await page.receive_nothing(0.6)
    await page.disconnect()


async def test_many_pages_hear_of_a_change_one_after_the_other_and_how_long_to_pause():
    header = await cookie("view_run")
    pages = [socket(header) for _ in range(8)]
    for page in pages:
        await page.connect()
    began = time.monotonic()
    layer.publish(changed([1]))
    frames = [await until(page, "run:1") for page in pages]
    assert time.monotonic() - began > 6.5 * PAGES_APART
    assert frames == [{"changed": ["run:1"], "pause": 1.0}] * 8
    for page in pages[1:]:
        await page.disconnect()
    layer.publish(changed([2]))
    assert await until(pages[0], "run:2") == {"changed": ["run:2"], "pause": 0.5}
    await pages[0].disconnect()


async def test_many_pages_take_it_slowly_while_more_changes_than_can_be_named():
    header = await cookie("view_run")
    pages = [socket(header) for _ in range(4)]
    for page in pages:
        await page.connect()
    began = time.monotonic()
    layer.publish(changed(range(1000)))
    frames = [await until(page, "*") for page in pages]
    assert time.monotonic() - began > 2.5 * BUSY_APART
    assert frames == [{"changed": ["*"], "pause": 2.0}] * 4
    layer.publish(changed([1]))
    frames = [await until(page, "run:1") for page in pages]
    assert frames == [{"changed": ["run:1"], "pause": 0.5}] * 4
    for page in pages:
        await page.disconnect()


@pytest.mark.parametrize(
    ("change", "within", "apart"),
    [
        (changed([1], [2]), 0, PAGES_APART),
        (changed(range(8)), 0.1, 2 * PAGES_APART),
        (changed(range(8), range(8)), 0.5, BUSY_APART),
        (changed(range(8), range(8)), 2, PAGES_APART),  # a page that waits for its turn is no sign of a burst
        (changed(range(1000)), 30, BUSY_APART),
        (changed(workers=True), 0, PAGES_APART),
    ],
)
def test_the_faster_rows_change_the_more_slowly_pages_are_told(change, within, apart):
    assert sockets.LiveConsumer().apart(change, within=within) == apart


async def test_a_socket_that_ends_with_an_error_leaves_nothing_behind(monkeypatch):
    page = socket(await cookie("view_run"))
    await page.connect()
    turns, hub = turns_of_this_loop(PAGES), hub_of_this_loop()
    assert (turns.members, len(hub._listeners)) == (1, 1)

    async def fail(consumer, **keywords):
        raise RuntimeError("the server has gone")

    monkeypatch.setattr(sockets.LiveConsumer, "close", fail)
    await page.send_to(text_data="x" * 2000)
    with pytest.raises(RuntimeError):
        await page.wait()
    assert (turns.members, len(hub._listeners)) == (0, 0)


async def test_a_browser_that_takes_nothing_is_told_to_look_at_everything():
    consumer = sockets.LiveConsumer()
    consumer._outbox = asyncio.Queue(maxsize=3)
    for key in range(4):
        consumer._send_soon({"changed": [f"run:{key}"]})
    kept = [json.loads(consumer._outbox.get_nowait()) for _ in range(consumer._outbox.qsize())]
    assert kept == [{"live": False}, {"changed": ["run:3"]}]


async def test_so_many_changes_that_they_can_not_be_named_are_told_as_everything():
    page = socket(await cookie("view_run"))
    await page.connect()
    layer.publish(changed(range(1000)))
    assert await until(page, "*") == {"changed": ["*"], "pause": 0.5}
    await page.disconnect()


async def test_what_a_browser_sends_is_not_read_and_much_of_it_ends_the_socket():
    page = socket(await cookie("view_run"))
    await page.connect()
    await page.receive_from()
    await page.send_to(text_data='{"type": "sisy.tick"}')
    assert await page.receive_nothing(0.1)
    await page.send_to(text_data="x" * 2000)
    assert await page.receive_output() == {"type": "websocket.close", "code": sockets.TOO_BIG}


@pytest.mark.parametrize("loss", ["logout", "deactivated", "permission", "password"])
async def test_who_loses_the_right_to_look_loses_the_socket(loss, monkeypatch):
    monkeypatch.setattr(sockets, "CHECK_EVERY", 0.1)
    page = socket(await cookie("view_run"))
    await page.connect()
    await page.receive_from()

    @sync_to_async
    def lose():
        user = User.objects.get()
        if loss == "logout":
            Session.objects.all().delete()
        elif loss == "permission":
            user.user_permissions.clear()
        elif loss == "password":
            user.set_password("another")
            user.save()
        else:
            user.is_active = False
            user.save()

    await asyncio.sleep(0.25)
    assert await page.receive_nothing(0.1)
    await lose()
    assert await page.receive_output(timeout=5) == {"type": "websocket.close", "code": sockets.REFUSED}


async def test_a_visitor_hears_of_the_own_run_only():
    page = socket(path=f"{JOB_PATH}{token_of(Job(run=7))}/")
    assert (await page.connect())[0]
    await page.receive_from()
    layer.publish(changed([8], [7]))
    assert await page.receive_nothing(0.2)
    layer.publish(changed([7, 8], [1]))
    assert await until(page, "run:7") == {"changed": ["run:7"], "pause": 0.5}
    await page.disconnect()


async def test_a_token_that_was_made_up_or_belongs_to_somebody_else_opens_nothing():
    bob = await sync_to_async(staff)(name="bob")
    good = token_of(Job(run=7, user=str(bob.pk)))
    for token, headers in ((good, []), (good, [await cookie()]), ("made:up:token", []), (good[:-1] + "x", [])):
        assert not (await socket(*headers, path=f"{JOB_PATH}{token}/").connect())[0]
    page = socket(await sync_to_async(cookie_of)(bob), path=f"{JOB_PATH}{good}/")
    assert (await page.connect())[0]
    await page.disconnect()


async def test_what_another_process_publishes_comes_through_redis(redis_layer):
    page = socket(await cookie("view_run"))
    await page.connect()
    assert json.loads(await page.receive_from()) == {"live": True}
    await until(page, "*")  # whatever changed until now
    layer.publish(changed([1], [2]))
    assert await until(page, "run:1") == {"changed": ["run:1", "task:2"], "pause": 0.5}
    await page.disconnect()


def test_a_process_publishes_at_most_two_hints_a_second(redis_layer, monkeypatch):
    sent = []

    async def note(_layer, batch, hint):
        sent.append((time.monotonic(), hint))

    monkeypatch.setattr(sender, "_send_all", note)
    layer.publish(changed([0]))
    wait_for(lambda: sent)
    for key in range(1, 20):
        layer.publish(changed([key]))
    wait_for(lambda: len(sent) == 2)
    assert sent[1][0] - sent[0][0] > 0.45
    assert [sorted(hint.runs) for _at, hint in sent] == [[0], list(range(1, 20))]
