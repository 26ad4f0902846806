"""Directives that make the reference's tables from the code, so that the two cannot disagree.

    .. sisy-settings::            every key of SISY
    .. sisy-fields:: Task          the columns of a model
    .. sisy-command:: sisy_worker  a command's options and exit codes
    .. sisy-checks::              the system checks

Each directive writes reStructuredText and has Sphinx parse it.
"""

import argparse
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.db import models
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from sisy.checks import catalogue
from sisy.conf import Settings


class SettingsTable(SphinxDirective):
    """One row for each key of SISY: its default, and what sisy/conf.py says about it."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(inspect.getfile(Settings))
        documented = ModuleAnalyzer.for_module("sisy.conf").find_attr_docs()
        rows = [
            (f"``{key.upper()}``", shown(default, key=key), first(documented["Settings", key]))
            for key, default in ((field.name, field.default) for field in fields(Settings))
        ]
        return self.parse_text_to_nodes(table(("Key", "Default", "Meaning"), rows, widths=(3, 2, 5)))


class FieldsTable(SphinxDirective):
    """One row for each column of a model."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        model = apps.get_model("sisy", self.arguments[0])
        self.env.note_dependency(inspect.getfile(model))
        rows = [
            (f"``{column.name}``", kind(column), shown_default(column), meaning(column))
            for column in model._meta.concrete_fields
        ]
        return self.parse_text_to_nodes(table(("Field", "Type", "Default", "Meaning"), rows, widths=(3, 3, 2, 5)))


class CommandOptions(SphinxDirective):
    """What a command does, its own options, and what its docstring says of its exit codes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        command = load_command_class("sisy", name)
        self.env.note_dependency(inspect.getfile(type(command)))
        text = [f".. program:: {name}", "", str(command.help), ""]
        for action in own_options(command, name):
            text += [f".. option:: {usage(action)}", "", f"   {action.help}", ""]
        text += [inspect.cleandoc(type(command).__doc__ or "")]
        return self.parse_text_to_nodes("\n".join(text))


class ChecksTable(SphinxDirective):
    """One row for each system check: its id and its meaning."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(inspect.getfile(catalogue))
        rows = [(f"``{check_id}``", escaped(text)) for check_id, text in catalogue.MEANINGS.items()]
        return self.parse_text_to_nodes(table(("Id", "What is wrong"), rows, widths=(1, 6)))


def own_options(command: BaseCommand, name: str) -> Iterable[argparse.Action]:
    """Return the options that not every Django command has."""
    everywhere = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    for action in command.create_parser("manage.py", name)._actions:
        if not everywhere.intersection(action.option_strings) and action.help != argparse.SUPPRESS:
            yield action


def usage(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or action.dest
    return name if action.nargs == 0 or not action.option_strings else f"{name} {action.dest.upper()}"


def kind(column: "models.Field[Any, Any]") -> str:
    """Say a column's type in a word or two."""
    if isinstance(column, models.ForeignKey):
        return f"key of {column.related_model._meta.object_name}"
    size = f", at most {column.max_length}" if isinstance(column, models.CharField) and not column.choices else ""
    return column.get_internal_type().removesuffix("Field") + size + (", or null" if column.null else "")


def meaning(column: "models.Field[Any, Any]") -> str:
    """Say what a column is for: its help text, its choices, and whether only the scheduler writes it."""
    if column.primary_key:
        return "Primary key."
    choices = ", ".join(f"``{value}`` ({label})" for value, label in column.choices or ())
    parts = [escaped(str(column.help_text)), f"One of {choices}." if choices else ""]
    if not any(parts):
        parts = [f"{str(column.verbose_name).capitalize()}."]
    if not column.editable:
        parts.append("Written by sisy.")
    return " ".join(part for part in parts if part)


def shown_default(column: "models.Field[Any, Any]") -> str:
    if not column.has_default():
        return ""
    default = column.default
    return '``SISY["DEFAULT_SCHEDULE"]``' if column.name == "schedule" else shown(default)


def shown(value: object, *, key: str = "") -> str:
    """Write a default as a user would write it in settings.py."""
    if isinstance(value, timedelta):
        days = key.endswith("_days")
        unit = "days" if days else "seconds"
        return f"{value / timedelta(days=1) if days else value.total_seconds():g} {unit}"
    if isinstance(value, type) and value in (dict, list):
        value = value()
    if isinstance(value, models.TextChoices):
        value = value.value
    return f"``{value!r}``" if not isinstance(value, str) else f'``"{value}"``'


def escaped(text: str) -> str:
    """Keep RST from reading asterisks and the like in plain text as markup."""
    return "".join(f"\\{character}" if character in "*`_|\\" else character for character in text)


def first(lines: Sequence[str]) -> str:
    return escaped(" ".join(line for line in lines if line))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, widths: Sequence[int]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if not index else '  -'} {cell}" for index, cell in enumerate(row)]
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("sisy-settings", SettingsTable)
    app.add_directive("sisy-fields", FieldsTable)
    app.add_directive("sisy-command", CommandOptions)
    app.add_directive("sisy-checks", ChecksTable)
    return {"parallel_read_safe": True}
