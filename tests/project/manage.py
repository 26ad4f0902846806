#!/usr/bin/env python
"""Run a Django command in the test project: `python tests/project/manage.py COMMAND`, from any directory."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line


def main() -> None:
    # The repository in place of this directory: the project's modules have one name only, tests.project.…
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
