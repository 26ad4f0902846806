"""sisy as a Django app: finds each app's tasks.py, connects the observers, registers the checks."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class SisyConfig(AppConfig):
    """The app `sisy`."""

    name = "sisy"
    verbose_name = _("Tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make sisy work in this process; asks no database."""
        import_module("sisy.checks")
        import_module("sisy.observers").connect()
        autodiscover_modules("tasks")
