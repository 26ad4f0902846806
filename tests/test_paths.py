import sys
from types import ModuleType, SimpleNamespace

import pytest

from sisy.errors import CallableNotFound, InvalidCallable
from sisy.paths import PATH_MAX_LENGTH, check_path, find, named
from tests import callable_samples as samples

SAMPLES = "tests.callable_samples"


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Give a function that writes modules which can be imported, and are forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = dict(sys.modules)

    def write(name, text=""):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    yield write
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "it is empty"),
        ("send_digest", "it has no dot"),
        ("shop..send_digest", "other characters"),
        (".shop.send_digest", "other characters"),
        ("shop.send_digest.", "other characters"),
        (" shop.send_digest", "other characters"),
        ("shop.send\tdigest", "other characters"),
        ("shop.send_digest\n", "other characters"),
        ("shop.jobs:send_digest", "other characters"),
        ("shop.send_digest()", "other characters"),
        ("shop.send-digest", "other characters"),
        ("shop.2.send", "other characters"),
        ("shop." + "a" * PATH_MAX_LENGTH, f"260 characters and at most {PATH_MAX_LENGTH} fit"),
        ("shop.<lambda>", "lambda"),
        ("shop.make.<locals>.<lambda>", "lambda"),
        ("shop.make.<locals>.send", "nested"),
        ("__main__.send", "Move it to a module"),
        ("__mp_main__.send", "Move it to a module"),
        ("shop.__main__.send", "Move it to a module"),
        ("__fake__.Order.remind", "historical model"),
        ("shop.__init__.send", "double underscores"),
        ("shop.send.__call__", "double underscores"),
        ("shop.Order.__class__.mro", "double underscores"),
    ],
)
def test_what_is_no_path_is_refused_before_anything_is_imported(path, why):
    with pytest.raises(InvalidCallable, match=why):
        check_path(path)


def test_paths_as_long_as_the_column_and_names_of_any_language_are_accepted():
    check_path("shop." + "a" * (PATH_MAX_LENGTH - 5))
    check_path("läden.erinnern")


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (f"{SAMPLES}.plian", f"{SAMPLES}.plain"),
        (f"{SAMPLES}.Plane.static", f"{SAMPLES}.Plain.static"),
        (f"{SAMPLES}.Plain.Iner.static", f"{SAMPLES}.Plain.Inner.static"),
        (f"{SAMPLES}.Plain.Inner.statik", f"{SAMPLES}.Plain.Inner.static"),
        (f"{SAMPLES}.Order.remnid", f"{SAMPLES}.Order.remind"),
        (f"{SAMPLES}.order.remind", f"{SAMPLES}.Order.remind"),
        ("tests.callable_sample.Plain.static", f"{SAMPLES}.Plain.static"),
        ("djngo.shortcuts.render", "django.shortcuts.render"),
    ],
)
def test_a_typo_anywhere_in_a_path_is_answered_with_the_nearest_one(path, nearest):
    with pytest.raises(CallableNotFound) as refused:
        find(path)
    assert repr(path) in str(refused.value)
    assert str(refused.value).endswith(f"Did you mean {nearest!r}?")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("qqzzxx.jobs.send", "there is no module 'qqzzxx'"),
        (f"{SAMPLES}.qqzzxx", f"{SAMPLES} has no 'qqzzxx'"),
        (f"{SAMPLES}.qqzzxx.send", f"{SAMPLES} has no 'qqzzxx'"),
        (f"{SAMPLES}.Plain.qqzzxx", f"{SAMPLES}.Plain has no 'qqzzxx'"),
    ],
)
def test_a_path_that_is_near_to_nothing_says_where_it_ends(path, why):
    with pytest.raises(CallableNotFound, match=rf"{why}\. Check the spelling"):
        find(path)


@pytest.mark.parametrize("name", ["plain.remind", "an_object.method", "Order.objects.update", "a_constant.real"])
def test_a_path_does_not_go_through_objects(name):
    with pytest.raises(InvalidCallable, match=rf"{name.rpartition('.')[0]} is neither a module nor a class"):
        find(f"{SAMPLES}.{name}")


def test_a_path_does_not_go_through_imported_modules():
    why = rf"{SAMPLES}\.functools is only another name .*Give the path from there: functools\.wraps\.x\."
    with pytest.raises(InvalidCallable, match=why):
        find(f"{SAMPLES}.functools.wraps.x")


def test_a_place_tells_its_module_its_class_and_its_name():
    place = find(f"{SAMPLES}.Plain.Inner.static")
    assert (place.module, place.owner, place.name) == (SAMPLES, samples.Plain.Inner, "static")
    assert find(f"{SAMPLES}.plain").owner is None


def test_a_function_that_has_the_name_of_its_module_is_found_by_both_of_its_paths(write_module):
    write_module("sisy_store/__init__.py", "from .remind import remind")
    write_module("sisy_store/remind.py", "def remind(message): pass")
    function = find("sisy_store.remind").value
    assert find("sisy_store.remind.remind").value is function
    assert function.__module__ == "sisy_store.remind"


def test_a_class_that_has_the_name_of_its_module_is_found_by_both_of_its_paths(write_module):
    write_module("sisy_store/__init__.py", "from .Order import Order")
    write_module("sisy_store/Order.py", "class Order:\n    def remind(self, message): pass")
    assert find("sisy_store.Order.remind").owner is find("sisy_store.Order.Order.remind").owner


def test_a_path_that_is_a_module_is_not_imported(write_module):
    write_module("sisy_store/__init__.py")
    write_module("sisy_store/jobs.py", "raise AssertionError('imported')")
    with pytest.raises(CallableNotFound, match="it is a module"):
        find("sisy_store.jobs")


@pytest.mark.parametrize(
    ("text", "why", "cause"),
    [
        ("1 / 0", "importing sisy_broken raised ZeroDivisionError: division by zero", ZeroDivisionError),
        ("import qqzzxx", "importing sisy_broken raised ModuleNotFoundError: No module named 'qqzzxx'", ImportError),
        ("from os import qqzzxx", "importing sisy_broken raised ImportError", ImportError),
        ("def (", "importing sisy_broken raised SyntaxError", SyntaxError),
        ("raise SystemExit(3)", "importing sisy_broken raised SystemExit: 3", SystemExit),
    ],
)
def test_an_error_inside_of_a_module_is_told_from_a_missing_module(write_module, text, why, cause):
    write_module("sisy_broken.py", text)
    with pytest.raises(CallableNotFound, match=why) as refused:
        find("sisy_broken.send")
    assert isinstance(refused.value.__cause__, cause)


def test_an_interrupt_while_a_module_is_imported_still_interrupts(write_module):
    write_module("sisy_broken.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        find("sisy_broken.send")


def test_a_descriptor_that_raises_is_no_function(monkeypatch):
    class Raises:
        def __get__(self, instance, owner):
            raise RuntimeError("not now")

    monkeypatch.setattr(samples.Plain, "raises", Raises(), raising=False)
    with pytest.raises(CallableNotFound, match="Plain has no 'raises'"):
        find(f"{SAMPLES}.Plain.raises")


def test_the_script_that_is_running_is_not_imported_a_second_time(write_module, monkeypatch):
    file = write_module("sisy_script.py", "raise AssertionError('imported')")
    write_module("other/sisy_script.py")
    started_with_m = SimpleNamespace(__spec__=SimpleNamespace(name="sisy_script"))
    started_as_file = SimpleNamespace(__spec__=None, __file__=str(file))
    for main in (started_with_m, started_as_file):
        monkeypatch.setitem(sys.modules, "__main__", main)
        with pytest.raises(InvalidCallable, match=r"in the script.*Move it to a module"):
            find("sisy_script.send")


def test_a_module_that_only_shares_the_name_of_the_script_is_imported(write_module, monkeypatch):
    write_module("sisy_script.py", "def send(message): pass")
    script = write_module("bin/sisy_script.py")
    for main in (SimpleNamespace(__spec__=None, __file__=str(script)), ModuleType("__main__")):
        monkeypatch.setitem(sys.modules, "__main__", main)
        assert find("sisy_script.send").name == "send"
        del sys.modules["sisy_script"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "None"),
        ("shop.jobs.send", "'shop.jobs.send'"),
        ("a" * 300, f"'{'a' * PATH_MAX_LENGTH}...'"),
        (samples, SAMPLES),
        (samples.plain, f"{SAMPLES}.plain"),
        (samples.Plain.of_class, f"{SAMPLES}.Plain.of_class"),
        (samples.Plain, f"{SAMPLES}.Plain"),
        (len, "builtins.len"),
        (samples.a_partial, "An object of the type partial"),
        (samples.Order(id=7), "An object of the type Order"),
        (samples.Order(id=7).remind, f"{SAMPLES}.Sample.remind"),
    ],
)
def test_values_are_named_without_their_repr(given, name):
    assert named(given) == name
