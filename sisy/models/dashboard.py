"""The dashboard as something to have a permission for: it has no rows of its own."""

from django.utils.translation import gettext_lazy as _

from sisy.rows.run import Run


class Dashboard(Run):
    """The overview in the admin, which needs `sisy.view_dashboard`."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")
