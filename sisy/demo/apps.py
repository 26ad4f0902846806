"""The demo's only app."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """The app `sisy.demo`."""

    name = "sisy.demo"
    label = "sisy_demo"
    verbose_name = "Demo"
    default_auto_field = "django.db.models.BigAutoField"
