"""manage.py sisy_prune: deletes old runs at once, as each tick does little by little."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from sisy import maintenance


class Command(BaseCommand):
    """Deletes ended runs beyond SISY["KEEP_RUNS_DAYS"] and SISY["KEEP_RUNS_PER_TASK"]; exit code 0."""

    help = "Delete ended runs that are too old or too many for one task. Each tick does it too, in small batches."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune until nothing is left to prune."""
        total = 0
        while deleted := maintenance.prune(timezone.now(), batches=20):
            total += deleted
        if options["verbosity"]:
            self.stdout.write(f"sisy_prune: {total} runs deleted.")
