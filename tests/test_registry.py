import sys

import pytest

from sisy import registry
from sisy.errors import CallableNotAllowed, InvalidCallable
from sisy.registry import check_allowed, is_allowed, registered, task
from tests import callable_samples as samples

SAMPLES = "tests.callable_samples"


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch):
    monkeypatch.setattr(registry, "_labels", {})


def test_a_function_is_registered_and_left_as_it_was():
    assert task(samples.plain) is samples.plain
    assert registered() == {f"{SAMPLES}.plain": ""}


def test_the_decorator_takes_a_label_and_may_have_empty_parentheses():
    assert task()(samples.awaited) is samples.awaited
    assert task(label="The plain one")(samples.plain) is samples.plain
    assert dict(registered()) == {f"{SAMPLES}.awaited": "", f"{SAMPLES}.plain": "The plain one"}


def test_what_is_registered_is_sorted_and_can_not_be_changed():
    for function in (samples.wrapped, samples.awaited, samples.plain):
        task(function)
    assert list(registered()) == [f"{SAMPLES}.awaited", f"{SAMPLES}.plain", f"{SAMPLES}.wrapped"]
    with pytest.raises(TypeError):
        registered()["os.system"] = ""


DECLARATIONS = """
import sisy.registry

class Order:
    @sisy.registry.task
    def remind(self, message): return "remind"

    @sisy.registry.task(label="Each night")
    @classmethod
    def above_class(cls, message): return "above_class"

    @classmethod
    @sisy.registry.task
    def below_class(cls, message): return "below_class"

    @sisy.registry.task
    @staticmethod
    def above_static(message): return "above_static"

    @staticmethod
    @sisy.registry.task
    def below_static(message): return "below_static"

    @sisy.registry.task
    async def awaited(this, message): return "awaited"

    class Item:
        @sisy.registry.task
        @classmethod
        def nested(cls, message): return "nested"
"""


def test_methods_are_registered_inside_of_the_class_above_and_below_other_decorators(tmp_path, monkeypatch):
    (tmp_path / "sisy_declared.py").write_text(DECLARATIONS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    order = __import__("sisy_declared").Order
    monkeypatch.delitem(sys.modules, "sisy_declared")
    names = ["Item.nested", "above_class", "above_static", "awaited", "below_class", "below_static", "remind"]
    assert list(registered()) == [f"sisy_declared.Order.{name}" for name in names]
    assert registered()["sisy_declared.Order.above_class"] == "Each night"
    for name in ("above_class", "below_class", "above_static", "below_static"):
        assert getattr(order, name)("a message") == name
    assert order().remind("a message") == "remind"
    assert order.Item.nested("a message") == "nested"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda message: None, "lambda"),
        (samples.nested(), "nested"),
        (samples.two_parameters, "its parameters"),
        (samples.Plain, "class"),
        (samples.a_partial, "partial"),
    ],
)
def test_what_can_not_be_a_task_is_refused_at_the_decoration(given, why):
    for decorate in (task, task(label="A label")):
        with pytest.raises(InvalidCallable, match=why):
            decorate(given)
    assert not registered()


def test_a_label_without_its_name_is_refused():
    with pytest.raises(InvalidCallable, match=r"Write @task\(label='The digest'\)"):
        task("The digest")


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
def test_a_function_of_a_script_is_left_alone_as_no_worker_could_import_it(module):
    def send(message):
        """Look as if written in a script."""

    send.__qualname__, send.__module__ = "send", module
    assert task(send) is send
    assert not registered()


@pytest.mark.parametrize(
    ("allowed", "path", "answer"),
    [
        (None, "os.system", True),
        ([], "shop.jobs.send", False),
        (["shop.jobs.send"], "shop.jobs.send", True),
        (["shop.jobs.send"], "shop.jobs.send_all", False),
        (["shop.jobs.*"], "shop.jobs.send", True),
        (["shop.*"], "shop.models.Order.remind", True),
        (["other.*", "shop.*"], "shop.jobs.send", True),
        (("shop.jobs.s?nd",), "shop.jobs.send", True),
        (["shop.Jobs.*"], "shop.jobs.send", False),
        (["shop.jobs"], "shop.jobs.send", False),
        ("shop.*", "shop.jobs.send", True),
        ("shop.*", "os.system", False),
    ],
)
def test_globs_cover_full_paths_in_their_case(allowed, path, answer):
    assert is_allowed(path, allowed) is answer


def test_a_registered_path_is_allowed_without_a_glob():
    task(samples.plain)
    check_allowed(f"{SAMPLES}.plain", [])
    assert not is_allowed(f"{SAMPLES}.awaited", [])


def test_a_refusal_names_the_path_the_setting_and_the_decorator():
    with pytest.raises(CallableNotAllowed) as refused:
        check_allowed("os.system", ["shop.*"])
    for part in ("'os.system'", 'SISY["ALLOWED_CALLABLES"]', "@sisy.task"):
        assert part in str(refused.value)
    assert refused.value.field == "callable"


def test_a_path_is_judged_without_being_imported():
    assert not is_allowed("qqzzxx.jobs.send", ["shop.*"])
    assert is_allowed("qqzzxx.jobs.send", ["qqzzxx.*"])
