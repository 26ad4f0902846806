"""The test project as the fault tests start it: see sabotage.py for what it does to itself."""

from tests.faults.sabotage import wanted
from tests.flow.settings import *  # noqa: F403
from tests.flow.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.sabotage.Sabotage"]
DATABASES["default"].setdefault("OPTIONS", {}).update(wanted().get("options", {}))
