"""Run a page of the docs as its reader would: write the files it shows, install its app, execute the rest in order.

test_docs.py is the only caller. Files of `bakery/` make that an installed app with migrated tables; those of `mysite/`
are the reader's project.
"""

import ast
import configparser
import doctest
import importlib
import importlib.util
import inspect
import re
import shlex
import tomllib
import unittest
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import call_command, get_commands, load_command_class
from django.db import transaction
from django.db.utils import ConnectionHandler
from django.template import engines
from django.test import override_settings

from sisy import conf
from sisy.checks.layers import check_layer
from sisy.demo import __main__ as demo
from sisy.demo.management.commands import setup as demo_setup
from sisy.models import Task
from tests.rst_blocks import Block

ROOT = Path(__file__).resolve().parents[1]
APP, PROJECT = "bakery", "mysite"
Namespace = dict[str, Any]


# -- files -----------------------------------------------------------------------------------------


def files_of(blocks: Iterable[Block]) -> dict[str, str]:
    """Put together what a page says about each module; several examples for one file follow each other in it."""
    files: dict[str, list[str]] = defaultdict(list)
    for block in blocks:
        if block.file.endswith(".py") and not is_settings(block.file) and not is_migration(block.file):
            files[block.file].append(block.text)
    return {file: "\n\n".join(texts) for file, texts in files.items()}


def install(files: dict[str, str], directory: Path, settings: Any) -> None:
    """Write the files into a directory on sys.path; make an app, with its tables, of those that belong to it."""
    _write(files, directory)
    if any(file.startswith(f"{APP}/") for file in files):
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, APP]
        call_command("makemigrations", APP, verbosity=0, skip_checks=True)
        migrate()


def migrate(*target: str) -> None:
    importlib.invalidate_caches()
    if list((Path(apps.get_app_config(APP).path) / "migrations").glob("0*.py")):
        call_command("migrate", APP, *target, verbosity=0, skip_checks=True)


def is_migration(file: str) -> bool:
    return "/migrations/" in file


def is_settings(file: str) -> bool:
    return file.endswith("settings.py")


def _write(files: dict[str, str], directory: Path) -> None:
    for file, text in files.items():
        package = directory / file.partition("/")[0]
        for folder in (package, package / "migrations"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        (directory / file).write_text(text, encoding="utf-8")
    importlib.invalidate_caches()


# -- Python ----------------------------------------------------------------------------------------


def run_python(block: Block, namespace: Namespace) -> None:
    if is_settings(block.file):
        with TemporaryDirectory() as directory:
            check_settings(block, Path(directory))
    elif Path(block.file).name.startswith("test"):
        run_tests(block)
    elif is_migration(block.file):
        run_migration(block)
    elif block.file:
        importlib.import_module(_module(block.file))
    else:
        execute("\n" * (block.line - 1) + block.text, name=block.page, namespace=namespace)


def execute(source: str, *, name: str, namespace: Namespace) -> None:
    """Execute statements, `await` among them."""
    code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)  # noqa: S102  the docs' own examples
        return

    async def main() -> None:
        await eval(code, namespace)  # noqa: S307  as above

    async_to_sync(main)()  # and not asyncio.run: the ORM's calls have to come back to this thread's connection


def run_migration(block: Block) -> None:
    """Apply a data migration, undo it, and apply it again, looking at the tasks each time."""
    before = _tasks()
    _write({block.file: block.text}, Path(apps.get_app_config(APP).path).parent)
    migrate()
    after = _tasks()
    dependencies = importlib.import_module(_module(block.file)).Migration.dependencies
    migrate(dict(dependencies)[APP])
    assert _tasks() == before != after
    migrate()


def _tasks() -> set[tuple[str, str]]:
    return set(Task.objects.values_list("label", "schedule"))


def run_session(block: Block, namespace: Namespace) -> None:
    """Run an interactive session and compare what it prints."""
    test = doctest.DocTestParser().get_doctest(block.text, {}, block.where, str(ROOT / block.page), block.line - 1)
    test.globs = namespace
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert result.attempted, f"{block.where} has no >>>"
    assert not result.failed, "".join(said)


def run_tests(block: Block) -> None:
    """Run the tests in a test module that the docs show, unittest's and pytest's, each in a transaction."""
    module = importlib.import_module(_module(block.file))
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    assert result.wasSuccessful(), [text for _, text in (*result.failures, *result.errors)]
    functions = [value for name, value in vars(module).items() if name.startswith("test_") and callable(value)]
    for function in functions:
        with transaction.atomic():
            async_to_sync(function)() if inspect.iscoroutinefunction(function) else function()
            transaction.set_rollback(True)
    assert result.testsRun + len(functions), f"{block.where} has no tests"


def check_settings(block: Block, directory: Path) -> None:
    """Execute lines for settings.py, and try out what can be tried without a server."""
    namespace: Namespace = {"BASE_DIR": directory, "INSTALLED_APPS": [], "DEBUG": False}
    execute(block.text, name=block.page, namespace=namespace)
    assert conf.find_problems(namespace.get("SISY", {})) == []
    if "CHANNEL_LAYERS" in namespace:
        with override_settings(CHANNEL_LAYERS=namespace["CHANNEL_LAYERS"], SISY=namespace.get("SISY", {})):
            assert check_layer(None) == []
    for database in namespace.get("DATABASES", {}).values():
        assert importlib.util.find_spec(database["ENGINE"]), database["ENGINE"]
        if database["ENGINE"].endswith("sqlite3"):
            connection = ConnectionHandler({"default": database})["default"]
            connection.ensure_connection()
            connection.close()


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


# -- commands --------------------------------------------------------------------------------------


def check_commands(block: Block, namespace: Namespace) -> None:
    """Check that each command exists and understands its options; none is run."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words:
                _check_command(words, where=block.where)


def _check_command(words: list[str], *, where: str) -> None:
    while re.fullmatch(r"[A-Z][A-Z_]*=.*", words[0]):
        _check_variable(words.pop(0).partition("=")[0])
    for beginning, check in _COMMANDS.items():
        if words[: len(beginning)] == list(beginning):
            check(words[len(beginning) :])
            return
    pytest.fail(f"{where}: no check knows {shlex.join(words)}")


def _check_variable(name: str) -> None:
    """The test project's and the demo's variables are read somewhere in the code."""
    code = (ROOT / "tests/conftest.py", ROOT / "tests/project/settings.py", *(ROOT / "sisy/demo").rglob("*.py"))
    known = any(name in file.read_text(encoding="utf-8") for file in code)
    prefix = re.fullmatch(r"SISY_TEST_(POSTGRESQL|MARIADB)_(HOST|PORT|USER|PASSWORD|NAME)", name)
    assert known or prefix or name == "DJANGO_SETTINGS_MODULE", f"nobody reads {name}"


def _check_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        requirement = re.fullmatch(r"(?:\.|sisy)(?:\[([a-z,]+)])?", word)
        assert word == "-e" or requirement or word in ("honcho",), word
        extras = requirement[1].split(",") if requirement and requirement[1] else []
        assert set(extras) <= set(project["optional-dependencies"]), word


def _check_manage(words: list[str]) -> None:
    name, *arguments = words
    load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(arguments)


def _check_django(words: list[str]) -> None:
    assert words[0] in ("startproject", "startapp")
    _check_manage(words)


def _check_pytest(words: list[str]) -> None:
    assert not [word for word in words if word not in ("-m", "redis", "browser")]


def _check_sphinx(words: list[str]) -> None:
    source = ROOT / words[-2]
    assert (source / "conf.py").is_file()


def _check_nothing_else(words: list[str]) -> None:
    assert not words


_COMMANDS: dict[tuple[str, ...], Callable[[list[str]], object]] = {
    ("python", "-m", "pip", "install"): _check_pip,
    ("python", "-m", "sisy.demo"): lambda words: demo._parser().parse_args(words),
    ("python", "-m", "pytest"): _check_pytest,
    ("python", "-m", "django"): _check_django,
    ("python", "-m", "sphinx"): _check_sphinx,
    ("python", "manage.py"): _check_manage,
    ("python", "-m", "sisy.demo.manage"): lambda words: demo_setup.Command().create_parser("", *words).parse_args([]),
    ("honcho", "start"): _check_nothing_else,
}


def check_ini(block: Block, namespace: Namespace) -> None:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.read_string(block.text)
    assert parser.sections()


def check_template(block: Block, namespace: Namespace) -> None:
    """Compile a template: its tags exist, and are used as they want to be."""
    engines["django"].from_string(block.text)


RUNNERS: dict[str, Callable[[Block, Namespace], None]] = {
    "python": run_python,
    "pycon": run_session,
    "shell": check_commands,
    "ini": check_ini,
    "html+django": check_template,
}
"""What is done with an example, by its language."""
