"""The websockets: one for the admin's pages, one for a visitor's own job. They send hints and take nothing.

routing.py names their addresses. A page that has no socket polls, so whatever ends one costs time only.
"""

import asyncio
import json
import logging
from importlib import import_module
from typing import Any, Final

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from sisy.live.hub import Hub, hub_of_this_loop
from sisy.live.jobs import job_of
from sisy.live.turns import JOBS, PAGES, Turns, turns_of_this_loop
from sisy.messages import Changed

_log = logging.getLogger("sisy.live")

SEND_EVERY: Final = 0.5  # seconds between two hints to one browser
PAGES_APART: Final = 0.125
"""Seconds from a hint to one of the admin's pages to the next one's in this process, if it names a few rows."""
BUSY_APART: Final = 0.5
"""The same after a hint with many: workers need the machine more than pages do then."""
_FEW: Final = 4  # rows in the time between two hints
JOBS_APART: Final = 0.02  # between visitors' jobs, which cost less
CHECK_EVERY: Final = 60.0  # seconds between two looks at whether the user still may
LONGEST_TEXT: Final = 1024  # characters that a browser may send, which are not read

FAILED: Final = 1011
"""Close code that has the page try again."""
REFUSED: Final = 4403
"""Close code that tells the page not to try again."""
TOO_BIG: Final = 1009
PERMISSIONS: Final = ("sisy.view_dashboard", "sisy.view_task", "sisy.view_run", "sisy.view_worker")


class HintConsumer(AsyncWebsocketConsumer):
    """A socket that passes on hints, at most two a second, for as long as its user may have them."""

    channel_layer_alias = "sisy opens no channel for a socket"  # the hub has one for all

    _hub: Hub | None = None
    _check: "asyncio.Task[None] | None" = None
    _waiting: Changed | None = None
    _waiting_since = 0.0
    _turns: Turns | None = None
    _sent_at = 0.0

    kind = PAGES
    """Whose turns these are."""

    async def is_allowed(self, user: Any) -> bool:
        """Tell whether this user may have hints; None is nobody."""
        raise NotImplementedError

    def topics(self, changed: Changed) -> list[str]:
        """Return what of a change this socket tells."""
        raise NotImplementedError

    def apart(self, changed: Changed, *, within: float) -> float:
        """Return how many seconds after such a hint the next browser with a socket of this kind may have one.

        Args:
            changed: what the hint tells.
            within: the seconds in which that changed.
        """
        raise NotImplementedError

    async def connect(self) -> None:
        """Let the user in, or not."""
        if not await self.is_allowed(self.scope.get("user")):
            await self.close()
            return
        await self.accept()
        self._outbox: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self._check = asyncio.create_task(self._keep_checking(), name="sisy socket check")
        self._writer = asyncio.create_task(self._write(), name="sisy socket writer")
        self._turns = turns_of_this_loop(self.kind)
        self._turns.members += 1
        self._hub = hub_of_this_loop()
        self._hub.join(self)

    async def __call__(self, *args: Any) -> None:
        """Serve a browser; however it ends, the others do not wait for its turns any more."""
        try:
            await super().__call__(*args)
        finally:
            self._leave()

    async def disconnect(self, code: int) -> None:
        """Hear of nothing more."""
        self._leave()

    def _leave(self) -> None:
        if self._hub is not None:
            self._hub.leave(self)
        if self._turns is not None:
            self._turns.members -= 1
            self._turns.withdraw(self._flush)
        self._hub = self._turns = None
        for task in filter(None, (self._check, getattr(self, "_writer", None))):
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take nothing."""
        if len(text_data or bytes_data or "") > LONGEST_TEXT:
            await self.close(code=TOO_BIG)

    def say_live(self, is_live: bool) -> None:
        """Tell the page whether hints will come."""
        self._send_soon({"live": is_live})

    def hint(self, changed: Changed) -> None:
        """Tell the page what changed, at once or together with what else changes until it has its turn."""
        if self._turns is None or not self.topics(changed):
            return
        now = asyncio.get_running_loop().time()
        if self._waiting is None:
            self._waiting, self._waiting_since = changed, now
            self._turns.ask(self._flush, earliest=max(now, self._sent_at + SEND_EVERY))
        else:
            self._waiting |= changed

    def _flush(self) -> float:
        changed, self._waiting = self._waiting, None
        if changed is None or self._turns is None:
            return 0.0
        self._sent_at = asyncio.get_running_loop().time()
        apart = self.apart(changed, within=self._sent_at - self._waiting_since)
        # How long the page shall let pass between two fetches, whatever it knows to be old: all shall have a turn.
        pause = max(SEND_EVERY, round(self._turns.members * apart, 2))
        self._send_soon({"changed": self.topics(changed), "pause": pause})
        return apart

    def _send_soon(self, frame: dict[str, Any]) -> None:
        if self._outbox.full():  # a browser that takes nothing: it shall fetch everything when it does
            while not self._outbox.empty():
                self._outbox.get_nowait()
            self._outbox.put_nowait(json.dumps({"live": self._hub is not None and self._hub.is_live}))
        self._outbox.put_nowait(json.dumps(frame))

    async def _write(self) -> None:
        while True:
            await self.send(text_data=await self._outbox.get())

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            try:
                may = await self.is_allowed(await self._user_by_now())
            except Exception:  # the database is away: rather no hints than some for who may not have them
                _log.warning("A socket's user can't be checked", exc_info=True)
                await self.close(code=FAILED)
                return
            if not may:
                await self.close(code=REFUSED)
                return

    async def _user_by_now(self) -> Any:
        """Return the user whom the session belongs to now: logging out, a new password and deactivation count."""
        session = self.scope.get("session")
        key = getattr(session, "session_key", None)
        if key is None:
            return None
        fresh = import_module(settings.SESSION_ENGINE).SessionStore(key)
        return await get_user({**self.scope, "session": fresh})


class LiveConsumer(HintConsumer):
    """Hints for the admin's pages: for active staff who may view something of sisy's."""

    async def is_allowed(self, user: Any) -> bool:
        """Tell whether this user may look at the pages that the hints are for."""
        return bool(user and user.is_active and user.is_staff) and await database_sync_to_async(_may_view)(user)

    def topics(self, changed: Changed) -> list[str]:
        """Return everything that changed."""
        return changed.topics()

    def apart(self, changed: Changed, *, within: float) -> float:
        """Spread the pages, which nearly every change is news for; the wider the more happens elsewhere."""
        rows = (len(changed.runs) + len(changed.tasks)) * SEND_EVERY / max(SEND_EVERY, within)
        return BUSY_APART if changed.everything else min(BUSY_APART, PAGES_APART * max(1.0, rows / _FEW))


class JobConsumer(HintConsumer):
    """Hints for one run, for the visitor whose token allows it."""

    kind = JOBS

    async def is_allowed(self, user: Any) -> bool:
        """Tell whether the token is good, and good for this user."""
        job = job_of(self.scope["url_route"]["kwargs"]["token"])
        self._run = job.run if job is not None else None
        return job is not None and job.is_for(user)

    def topics(self, changed: Changed) -> list[str]:
        """Return the run, if it changed."""
        return [f"run:{self._run}"] if changed.everything or self._run in changed.runs else []

    def apart(self, changed: Changed, *, within: float) -> float:
        """Spread the visitors a little."""
        return JOBS_APART


def _may_view(user: Any) -> bool:
    return any(user.has_perm(permission) for permission in PERMISSIONS)
