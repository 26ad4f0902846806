"""The form for a task: the callable and the zone are chosen, userdata is checked, what nobody touched is left alone.

TaskAdmin uses it. The rules are the model's: Task.full_clean checks the values and Task.save writes them; here their
errors find the field that they belong to.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext as of_django  # makemessages leaves these to Django's own catalogues
from django.utils.translation import gettext_lazy as _

from sisy import callables
from sisy.admin.choices import callable_choices, is_row_method, zone_choices
from sisy.admin.fields import UserdataField
from sisy.errors import InvalidCallable, SisyError
from sisy.models import Task
from sisy.models.timing import ONCE

_FIELD_OF: Final[Mapping[str, str]] = {"userdata": "_extra_data", "pk_override": "instance_pk"}
"""The form's names of what errors name otherwise."""

_TARGET: Final = frozenset({"callable", "instance_pk"})


class TaskForm(forms.ModelForm):  # type: ignore[type-arg]  # can't be subscripted when it runs
    """A task's fields. TaskAdmin says which of them."""

    refusal: ClassVar[SisyError | IntegrityError | None] = None
    """Why saving this form's values was refused, although they looked right: shown as an error of the form."""

    callable = forms.ChoiceField(
        label=capfirst(_("callable")), help_text=_("What to call, of what is registered and allowed.")
    )
    timezone = forms.ChoiceField(
        label=capfirst(_("time zone")), required=False, help_text=_("The zone in which the schedule is meant.")
    )
    _extra_data = UserdataField(
        label=capfirst(_("userdata")), required=False, help_text=_("The task's own data: a JSON object.")
    )

    class Meta:
        model = Task
        fields: ClassVar = ["callable"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.instance.created_at = timezone.now()  # what "@once" counts from until the task is saved
        _ = self.instance.userdata  # from here on the task knows whether it is changed
        self._offer_choices()
        self._name_halves()
        self._remember_what_is_shown()

    def _name_halves(self) -> None:
        """Say which instant a date and a time belong to; Django 5.2 has no labels there at all."""
        for field in self.fields.values():
            if isinstance(field.widget, AdminSplitDateTime):
                for half, name in zip(field.widget.widgets, (of_django("Date:"), of_django("Time:")), strict=True):
                    half.attrs["aria-label"] = f"{field.label}, {name}".rstrip(":")

    def full_clean(self) -> None:
        """Check everything; if something is wrong, the page shows the task as it is, beside what was typed."""
        super().full_clean()
        if self.is_bound and self.errors and not self.instance._state.adding:
            with suppress(Task.DoesNotExist):
                self.instance.refresh_from_db()

    def clean_jitter(self) -> timedelta:
        """Read an empty field as no jitter."""
        return self.cleaned_data["jitter"] or timedelta(0)

    def clean(self) -> dict[str, Any]:
        """Check what concerns several fields."""
        super().clean()
        if self.refusal is not None:
            self.add_error(getattr(self.refusal, "field", None), str(self.refusal))
        if _TARGET & self.fields.keys() and not _TARGET & self.errors.keys():
            self._check_row_of_method()
        if not self.instance._state.adding:
            self._forget_what_was_not_changed()
        if str(self.cleaned_data.get("schedule", "")).strip() == ONCE and not self._count():
            self.cleaned_data["iterations"] = 1  # the only number that a one-shot can have
        return self.cleaned_data

    def add_error(self, field: str | None, error: Any) -> None:
        """Add errors to their field; those of columns that this form does not show go above it."""
        if field is None and hasattr(error, "error_dict"):
            for name, errors in error.error_dict.items():
                self._add_error_of_model(_FIELD_OF.get(name, name), errors)
            return
        name = _FIELD_OF.get(field or "", field)
        super().add_error(name if name in self.fields else None, error)

    def _add_error_of_model(self, name: str, errors: list[ValidationError]) -> None:
        """Add what the model found, but for what follows from an error that this form has found already."""
        told = self.errors.keys()
        if name not in told and not (name in _TARGET and _TARGET & told):
            self.add_error(name, errors)

    def _offer_choices(self) -> None:
        for name, choices in (("callable", callable_choices), ("timezone", self._zones)):
            field = self.fields.get(name)
            if isinstance(field, forms.ChoiceField):
                field.choices = [("", "---------"), *choices()] if name == "callable" else choices()

    def _zones(self) -> list[Any]:
        return list(zone_choices(self.instance.timezone))

    def _remember_what_is_shown(self) -> None:
        """Send along what the row held when the page was made, to tell what was changed from what has changed since."""
        if self.is_bound and not any(name.startswith("initial-") for name in self.data):
            return  # not posted by this page
        for field in self.fields.values():
            field.show_hidden_initial = not self.instance._state.adding

    def _forget_what_was_not_changed(self) -> None:
        """Leave alone what runs, or other people, may have changed meanwhile in the fields that nobody touched here."""
        for name in self.cleaned_data.keys() - set(self.changed_data):
            del self.cleaned_data[name]

    def _count(self) -> int:
        return int(self.cleaned_data.get("iterations") or self.instance.iterations)

    def _check_row_of_method(self) -> None:
        """Check the key of the row whose method is to be called."""
        if not _TARGET & set(self.changed_data):
            return
        path = self.cleaned_data.get("callable", self.instance.callable)
        key = self.cleaned_data.get("instance_pk")
        if "callable" in self.changed_data:
            self.instance.instance_db = ""  # the database of another model's row
        if not is_row_method(path):
            if key is not None:
                self.add_error("instance_pk", gettext("This callable is no method of a row. Leave this empty."))
            return
        if key is None:
            self.add_error("instance_pk", gettext("This callable is a method of a row. Give the row's primary key."))
            return
        self._check_row_exists(path, key)

    def _check_row_exists(self, path: str, key: str) -> None:
        try:
            target = callables.target_of(path, pk_override=key)
        except InvalidCallable as error:
            self.add_error(error.field, str(error))
            return
        model = callables.model_of(path)
        rows = model._base_manager.all()
        if self.instance.instance_db:
            rows = rows.using(self.instance.instance_db)
        if not rows.filter(pk=callables.pk_of(target)).exists():
            text = gettext("There is no %(model)s with the primary key %(key)s.")
            self.add_error("instance_pk", text % {"model": model._meta.verbose_name, "key": repr(key)})
        else:
            self.cleaned_data["instance_pk"] = target.instance_pk
