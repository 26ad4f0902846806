"""The tables, as in the shop's own migrations."""

from importlib import import_module

Migration = import_module("tests.project.shop.migrations.0001_initial").Migration
