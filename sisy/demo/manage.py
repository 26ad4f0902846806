"""The demo's manage.py: `python -m sisy.demo.manage COMMAND`, from any directory. The Procfile and deploy/ run it."""

import os
import sys
from typing import Final

from django.core.management import execute_from_command_line

SETTINGS: Final = "sisy.demo.settings"


def main() -> None:
    """Run a Django command; --settings chooses settings that build on the demo's."""
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS  # not setdefault: whatever is there belongs to another project
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
