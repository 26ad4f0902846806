"""manage.py setup: makes the demo's database ready. `python -m sisy.demo` calls it; a person does, for the Procfile."""

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

LOGIN: Final = "demo"
"""Name and password of the demo's administrator."""


class Command(BaseCommand):
    """Migrates, and makes the login demo/demo unless there is one; doing it again changes nothing."""

    help = "Create the demo's tables, tasks and login. Safe to repeat."
    requires_system_checks = ()  # what they warn of matters to a worker, which says so itself

    def handle(self, *args: Any, **options: Any) -> None:
        """Set up."""
        migrate_options = {"interactive": False, "verbosity": max(0, options["verbosity"] - 1)}
        call_command("migrate", "auth", **migrate_options)
        users = get_user_model()._default_manager
        is_new = not users.filter(username=LOGIN).exists()
        if is_new:  # before there are tasks: hashing takes its time, and tasks are due from their creation on
            users.create_superuser(username=LOGIN, password=LOGIN)
        call_command("migrate", **migrate_options)
        if options["verbosity"]:
            login = f"The admin's login is {LOGIN}, its password {LOGIN}." if is_new else f"The login {LOGIN} is kept."
            self.stdout.write(f"The demo is set up. {login}")
