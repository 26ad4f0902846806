"""The system checks of sisy: `manage.py check`, `check --database ALIAS` and `check --deploy` show them.

apps.py imports this once, which registers them under the tag "sisy" or, where a database is asked, "database". What
each id means is in `MEANINGS`.

- `catalogue`: all ids
- `project`: settings.SISY, and the settings of Django that sisy depends on
- `layers`: the channel layer
- `databases`: how the database that holds sisy's tables is set up
- `stored`: what is in those tables; asks a database, and only one that `--database` or `migrate` names
"""

from sisy.checks import databases, layers, project, stored
from sisy.checks.catalogue import MEANINGS

__all__ = ["MEANINGS", "databases", "layers", "project", "stored"]
