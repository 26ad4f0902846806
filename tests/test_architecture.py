"""The house rules that a parser can check: the floors, no circles, the clock at the doors, sizes, names, docstrings.

A rule gives a list of what breaks it, each with its file and line; exceptions stand here with their reasons.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sisy"

# A file imports from a lower floor, or on its own floor from what is listed before it. A package's name stands for its
# __init__.py; on the floor of the doors, for everything in it.
FLOORS = {
    "ground": (
        "errors describe cronfields wallclock cron meaning paths callables registry policy jsondata instants backoff "
        "messages conf signals"
    ),
    "rows": (
        "rows rows.clock rows.outage rows.literals rows.changes rows.reading rows.inserts rows.lookups rows.glance "
        "rows.indexes rows.process rows.run rows.tasks rows.claiming rows.worker rows.heartbeat "
        "transitions transitions.atomic transitions.planning transitions.claims transitions.endings "
        "transitions.returns models.columns models.timing models.checking models.entry models.queries models.task "
        "models.creation models.dashboard models"
    ),
    "roles": "realignment maintenance scheduler executor health",
    "wire": (
        "sender layer observers worker worker.flight worker.pool worker.lacking worker.pump worker.keeper "
        "worker.ticker worker.engine worker.heartbeat worker.listener worker.supervisor live live.hub "
        "live.guard live.jobs live.turns live.sockets consumers routing"
    ),
    "doors": "apps checks testing views urls backend admin templatetags management contrib demo",
}

# Django's own modules for migrations know nothing of floors.
NOT_OURS = ("migrations", "demo.migrations")

ONLY_IN = {
    "croniter": ("cron",),
    "channels": (
        "sender",
        "layer",
        "live",
        "consumers",
        "routing",
        "worker",
        "management",
        "checks",
        "demo",
    ),  # demo: a whole project
}

# Where time comes in, each with what it needs the clock for; everything below is given `now`.
CLOCKS = {
    "rows.run": "the verbs of a task function's own run",
    "sender": "how long to wait after a failed send, and between two hints",
    "layer": "how long a message is under way",
    "observers": "when a hint was last sent",
    "worker": "its loops",
    "models": "the verbs that people call",
    "checks": "comparing this host's clock with the database's",
    "testing": "a test that gives no instant",
    "admin": "the verbs that people click",
    "management": "the commands",
    "demo": "a project of its own",
    "contrib": "integrations with what asks for the time",
}

FUNCTION_IMPORTS: dict[str, str] = {}  # "module.function": why the import can't be at the top; none has to be

LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines; most should have fewer than 300 and 25
FORBIDDEN_CLASSES = re.compile(r"Manager|Helper|Util|Processor")
FORBIDDEN_FUNCTIONS = re.compile(r"_*(handle|do)_")
FORBIDDEN_FILES = re.compile(r"_*(util|helper|manager|processor)s?")


def is_in(module: str, names: object) -> bool:
    """Tell whether a module is one of these, or in one of these packages."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def read() -> dict[str, ast.Module]:
    """Parse each file; its key is the module's name without "sisy.", and "" for sisy/__init__.py."""
    trees = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text(), str(file))
    return {name: tree for name, tree in trees.items() if not is_in(name, NOT_OURS)}


TREES = read()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker sees."""
    yield node
    for child in [] if is_type_checking(node) else ast.iter_child_nodes(node):
        yield from walk(child)


def is_package(module: str) -> bool:
    return (PACKAGE / module.replace(".", "/") / "__init__.py").exists()


def imported(module: str, node: ast.AST) -> Iterator[str]:
    """Yield the full names of the modules that an import statement names; for names in modules, those modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            parents = f"sisy.{module}".split(".")[: None if is_package(module) else -1]
            origin = ".".join([*parents[: len(parents) + 1 - node.level], *([origin] if origin else [])])
        for alias in node.names:
            full = f"{origin}.{alias.name}"
            yield full if full.removeprefix("sisy.") in TREES and full.startswith("sisy.") else origin


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each module that a module imports."""
    for node in walk(TREES[module]):
        for name in imported(module, node):
            yield node.lineno, name


def own_imports(module: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the short name of each of sisy's modules that a module imports."""
    for line, name in imports(module):
        if name == "sisy" or name.startswith("sisy."):
            yield line, name.removeprefix("sisy").removeprefix(".")


def where(module: str, line: int = 1) -> str:
    """Return a module's file and a line in it, as an editor can open them."""
    path = "/".join(filter(None, ["sisy", *module.split("."), "__init__" if is_package(module) else ""]))
    return f"{path}.py:{line}"


# The floors


def place_of(module: str) -> tuple[int, int] | None:
    """Return a module's floor and its place there; None if it has none."""
    for floor, names in enumerate(FLOORS.values()):
        for place, name in enumerate(names.split()):
            if module == name or (floor == len(FLOORS) - 1 and is_in(module, [name])):
                return floor, place
    return None


def test_every_file_lives_on_a_floor():
    assert [where(module) for module in TREES if module and place_of(module) is None] == []


def test_every_place_but_at_the_doors_is_taken():
    """A file that is gone leaves no place behind, so that the list can be read as a table of contents."""
    names = " ".join(list(FLOORS.values())[:-1]).split()
    assert [name for name in names if name not in TREES] == []


def test_nothing_imports_from_above():
    broken = []
    for module in filter(None, TREES):
        for line, name in own_imports(module):
            here, there = place_of(module), place_of(name)
            if name and here and there and (there > here or (there == here and here[0] < len(FLOORS) - 1)):
                broken.append(f"{where(module, line)} imports sisy.{name}, which is above it")
    assert broken == []


def test_the_package_itself_imports_ground_only():
    assert [name for _, name in own_imports("") if place_of(name)[0] != 0] == []


def test_no_file_imports_itself_in_a_circle():
    graph = {module: {name for _, name in own_imports(module)} for module in TREES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed([f"sisy.{name}" for name in error.args[1]])))


def test_no_function_imports():
    broken = []
    for module, tree in TREES.items():
        for function in (node for node in walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            if any(isinstance(node, ast.Import | ast.ImportFrom) for node in walk(function)):
                broken.append(f"{module}.{function.name}")
    assert sorted(set(broken) - set(FUNCTION_IMPORTS)) == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_in_its_places_only(library):
    assert [
        f"{where(module, line)} imports {name}"
        for module in TREES
        for line, name in imports(module)
        if is_in(name, [library]) and not is_in(module, ONLY_IN[library])
    ] == []


# Time comes in at the doors


def clock_of(node: ast.AST) -> str | None:
    """Return how a node asks for the present time, or None."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
        names = {
            "timezone": ("now", "localtime", "localdate"),
            "datetime": ("now", "utcnow", "today"),
            "date": ("today",),
            "time": ("time", "time_ns", "localtime", "gmtime"),
        }
        return f"{owner}.{node.attr}" if node.attr in names.get(owner, ()) else None
    if isinstance(node, ast.ImportFrom) and node.module in ("time", "django.utils.timezone"):
        found = [alias.name for alias in node.names if alias.name in ("now", "time", "time_ns", "localtime")]
        return f"from {node.module} import {found[0]}" if found else None
    return None


def test_only_the_doors_ask_what_time_it_is():
    assert [
        f"{where(module, node.lineno)} {clock_of(node)}"
        for module, tree in TREES.items()
        if not is_in(module, CLOCKS)
        for node in walk(tree)
        if clock_of(node)
    ] == []


# Sizes, names, docstrings


def test_no_file_is_too_long():
    lengths = {
        module: len(Path(PACKAGE.parent, where(module).split(":")[0]).read_text().splitlines()) for module in TREES
    }
    assert {where(module): lines for module, lines in lengths.items() if lines > LONGEST_FILE} == {}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_no_function_is_too_long():
    lengths = {
        f"{where(module, function.lineno)} {function.name}": function.end_lineno - function.lineno + 1
        for module, tree in TREES.items()
        for function in functions(tree)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_no_name_says_nothing():
    broken = [where(module) for module in TREES if FORBIDDEN_FILES.fullmatch(module.rpartition(".")[2])]
    for module, tree in TREES.items():
        broken += [
            f"{where(module, node.lineno)} {node.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and FORBIDDEN_CLASSES.search(node.name)
        ]
        broken += [
            f"{where(module, function.lineno)} {function.name}"
            for function in functions(tree)
            if FORBIDDEN_FUNCTIONS.match(function.name)
        ]
    assert broken == []


def documented(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the public classes, functions and methods that need a docstring."""
    for node in body:
        if is_type_checking(node) or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if (
            node.name.startswith("_")
            or node.name in ("Meta", "Media")
            or decorators & {"overload", "setter", "deleter"}
        ):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from documented(node.body)


def test_everything_public_has_a_docstring():
    assert [
        f"{where(module, node.lineno)} {node.name}"
        for module, tree in TREES.items()
        for node in documented(tree.body)
        if not ast.get_docstring(node)
    ] == []


def test_every_file_opens_with_its_duty():
    assert [where(module) for module, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


# The rules themselves: each finds what it is for


def test_the_rules_see_imports_in_all_their_forms(monkeypatch):
    monkeypatch.setitem(
        TREES,
        "worker.sample",
        ast.parse(
            "import sisy\nimport sisy.conf\nfrom sisy import layer, task\nfrom sisy.rows.run import Run\n"
            "from . import pool\nfrom .engine import Engine\nfrom ..cron import Schedule\nimport channels.layers\n"
            "if TYPE_CHECKING:\n    from sisy.admin import x\n"
        ),
    )
    assert [name for _, name in own_imports("worker.sample")] == [
        "", "conf", "layer", "", "rows.run", "worker.pool", "worker.engine", "cron"
    ]  # fmt: skip
    assert (8, "channels.layers") in list(imports("worker.sample"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("timezone.now()", "timezone.now"),
        ("django.utils.timezone.now()", "timezone.now"),
        ("DateTimeField(default=timezone.now)", "timezone.now"),
        ("datetime.datetime.now(UTC)", "datetime.now"),
        ("date.today()", "date.today"),
        ("time.time()", "time.time"),
        ("from time import monotonic, time", "from time import time"),
        ("time.monotonic()", None),
        ("run.now()", None),
        ("timezone.timedelta()", None),
    ],
)
def test_the_rules_see_clocks(text, found):
    assert [clock for node in walk(ast.parse(text)) if (clock := clock_of(node))] == ([found] if found else [])
