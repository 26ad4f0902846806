"""The wheel: what is in it, what it depends on, and that nothing is said twice."""

import ast
import shutil
import subprocess
import sys
import tomllib
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import sisy

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
PROMISED = {
    "Django>=5.2",
    "channels>=4.2,<5",
    "channels-redis>=4.2,<5",
    "croniter>=7,<8",
    "cron-descriptor>=2,<3",
    "daphne>=4.1,<5",
    "pytz",
    "tzdata",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """A wheel of a copy: building in place would leave files here, and take in what earlier builds have left."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "sisy", source / "sisy", ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-c", BUILD, target], cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert built.returncode == 0, built.stdout
    return ZipFile(next(target.glob("sisy-*-py3-none-any.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def requirements(metadata: Message) -> list[Requirement]:
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sisy").rglob("*") if path.is_file()}
    assert packed == {name for name in files if "__pycache__" not in name}


def test_the_wheel_has_migrations_templates_and_the_typing_marker(wheel: ZipFile) -> None:
    names = wheel.namelist()
    assert "sisy/py.typed" in names
    assert any(name.startswith("sisy/migrations/0001_") for name in names)
    assert any("/templates/" in name for name in names)


def test_the_dependencies_are_the_promised_ones(metadata: Message) -> None:
    without_extras = {str(requirement) for requirement in requirements(metadata) if not requirement.marker}
    assert without_extras == {str(Requirement(text)) for text in PROMISED}


def test_the_tests_need_neither_a_compiler_nor_a_server(metadata: Message) -> None:
    test = {r.name for r in requirements(metadata) if r.marker and r.marker.evaluate({"extra": "test"})}
    assert "pytest" in test
    assert not test & {"mysqlclient", "psycopg-c", "playwright"}


def test_the_version_and_the_description_come_from_their_one_place(metadata: Message) -> None:
    assert metadata["Version"] == sisy.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload() == (ROOT / "README.rst").read_text(encoding="utf-8")


def test_every_supported_python_and_django_is_in_the_classifiers_and_in_tox() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    for python in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {python}" in project["classifiers"]
        assert f"py{python.replace('.', '')}-dj" in tox
    for django in ("5.2", "6.0", "6.1"):
        assert f"Framework :: Django :: {django}" in project["classifiers"]
        assert f"dj{django.replace('.', '')}: Django>={django}," in tox


def test_setup_py_is_a_shim() -> None:
    docstring, load, call = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(load) == "from setuptools import setup"
    assert ast.unparse(call) == "setup()"
