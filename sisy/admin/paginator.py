"""Pages of a table that may have millions of rows: counts no further than somebody would turn pages."""

from typing import Any, Final

from django.core.paginator import Paginator
from django.utils.functional import cached_property

MOST_COUNTED: Final = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # can't be subscripted when it runs
    """Pages of the first 10,000 rows of a queryset; whoever looks for older ones filters."""

    object_list: Any

    @cached_property
    def count(self) -> int:
        """Count the rows, up to the limit."""
        return int(self.object_list.order_by().values("pk")[:MOST_COUNTED].count())

    @property
    def is_cut(self) -> bool:
        """Whether there may be more rows than were counted."""
        return self.count >= MOST_COUNTED
