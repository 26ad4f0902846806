import asyncio
import functools
import inspect
import math
import uuid
from datetime import UTC, datetime

import pytest
from django.apps.registry import Apps
from django.db import models

from sisy.callables import (
    Target,
    bind,
    check_signature,
    declared_path,
    function_of,
    info,
    model_of,
    pk_of,
    resolve,
    target_of,
)
from sisy.errors import CallableNotFound, InvalidCallable
from tests import callable_samples as samples

MODULE = "tests.callable_samples"
A_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
AN_INSTANT = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


def run(function, message):
    """Call a function as a worker does, awaiting what is to be awaited."""
    result = function(message)
    return asyncio.run(result) if inspect.isawaitable(result) else result


FUNCTIONS = [
    (samples.plain, "plain", "function"),
    (samples.awaited, "awaited", "function"),
    (samples.with_default, "with_default", "function"),
    (samples.by_position_only, "by_position_only", "function"),
    (samples.wrapped, "wrapped", "function"),
    (samples.awaited_wrapped, "awaited_wrapped", "function"),
    (samples.Plain.of_class, "Plain.of_class", "classmethod"),
    (samples.Plain.awaited_of_class, "Plain.awaited_of_class", "classmethod"),
    (samples.Plain.wrapped_of_class, "Plain.wrapped_of_class", "classmethod"),
    (samples.Plain.Inner.of_class, "Plain.Inner.of_class", "classmethod"),
    (samples.Child.of_class, "Child.of_class", "classmethod"),
    (samples.Child().of_class, "Child.of_class", "classmethod"),
    (samples.Order.nightly, "Order.nightly", "classmethod"),
    (samples.ProxyOrder.nightly, "ProxyOrder.nightly", "classmethod"),
    (samples.Plain.static, "Plain.static", "staticmethod"),
    (samples.Plain.awaited_static, "Plain.awaited_static", "staticmethod"),
    (samples.Plain.Inner.static, "Plain.Inner.static", "staticmethod"),
]


@pytest.mark.parametrize(("function", "name", "func_type"), FUNCTIONS, ids=[name for _, name, _ in FUNCTIONS])
def test_functions_and_methods_of_classes_are_stored_by_their_path_and_called_again(function, name, func_type):
    target = target_of(function)
    assert target == target_of(target.path) == Target(path=f"{MODULE}.{name}")
    assert info(target)["func_type"] == func_type
    assert resolve(target.path) == function
    assert run(function_of(target.path), "a message") == run(function, "a message")


@pytest.mark.parametrize("name", ["Child.static", "Order.static", "ProxyOrder.nightly", "Plain.Inner.static"])
def test_a_path_keeps_the_class_it_names(name):
    assert target_of(f"{MODULE}.{name}") == Target(path=f"{MODULE}.{name}")


def test_a_path_may_lead_to_a_function_that_does_not_know_its_own_name():
    path = f"{MODULE}.nameless"
    assert target_of(path) == Target(path=path)
    assert function_of(path)("a message") == ("nameless", "a message")


ROWS = [
    pytest.param(samples.Order, {"id": 7}, "7", id="integer"),
    pytest.param(samples.UuidOrder, {"id": A_UUID}, str(A_UUID), id="uuid"),
    pytest.param(samples.TextOrder, {"code": "é/1 2"}, "é/1 2", id="text"),
    pytest.param(samples.DatedOrder, {"at": AN_INSTANT}, AN_INSTANT.isoformat(), id="instant"),
    pytest.param(samples.BinaryOrder, {"digest": b"\x00\xff"}, "AP8=", id="binary"),
    pytest.param(samples.ProxyOrder, {"id": 7}, "7", id="proxy"),
    pytest.param(samples.ChildOrder, {"id": 7, "order_ptr_id": 7}, "7", id="multi-table child"),
    pytest.param(samples.ChildOfUuid, {"uuidorder_ptr_id": A_UUID}, str(A_UUID), id="multi-table child of uuid"),
    pytest.param(samples.ItemOfOrder, {"tenant": A_UUID, "number": 3}, f'["{A_UUID}", "3"]', id="composite"),
    pytest.param(samples.Outer.NestedOrder, {"id": 7}, "7", id="nested model"),
]


@pytest.mark.parametrize("db", ["default", "other"])
@pytest.mark.parametrize(("model", "fields", "text"), ROWS)
def test_a_method_of_a_saved_row_is_stored_with_its_key_and_alias(model, fields, text, db):
    row = samples.saved(model, db=db, **fields)
    target = target_of(row.remind)
    path = f"{MODULE}.{model.__qualname__}.remind"
    assert target == Target(path=path, instance_pk=text, instance_db=db)
    assert model_of(path) is model
    assert pk_of(target) == row.pk
    assert type(pk_of(target)) in (type(row.pk), memoryview)
    assert bind(path, row)("a message") == row.remind("a message")


@pytest.mark.parametrize("name", ["remind", "awaited", "wrapped", "from_mixin"])
def test_every_kind_of_method_of_a_row_is_accepted_in_each_of_its_forms(name):
    row = samples.saved(samples.Order, id=7)
    path = f"{MODULE}.Order.{name}"
    assert target_of(getattr(row, name)) == Target(path=path, instance_pk="7", instance_db="default")
    assert target_of(path, pk_override=7) == Target(path=path, instance_pk="7")
    assert run(bind(path, row), "a message") == (name, 7, "a message")


def test_the_unbound_method_of_a_model_is_accepted_with_pk_override():
    target = target_of(samples.ProxyOrder.only_proxy, pk_override=7)
    assert target == Target(path=f"{MODULE}.ProxyOrder.only_proxy", instance_pk="7")


def test_pk_override_wins_over_the_row_of_a_bound_method():
    assert target_of(samples.Order().remind, pk_override=8).instance_pk == "8"
    row = samples.saved(samples.Order, db="other", id=7)
    assert target_of(row.remind, pk_override=8) == Target(
        path=f"{MODULE}.Order.remind", instance_pk="8", instance_db="other"
    )


@pytest.mark.parametrize(
    ("model", "given", "text", "key"),
    [
        ("Order", 7, "7", 7),
        ("Order", "7", "7", 7),
        ("UuidOrder", A_UUID, str(A_UUID), A_UUID),
        ("UuidOrder", str(A_UUID).upper(), str(A_UUID), A_UUID),
        ("TextOrder", "a b", "a b", "a b"),
        ("ChildOrder", "7", "7", 7),
        ("ItemOfOrder", (str(A_UUID), 3), f'["{A_UUID}", "3"]', (A_UUID, 3)),
        ("ItemOfOrder", [A_UUID, "3"], f'["{A_UUID}", "3"]', (A_UUID, 3)),
        ("ItemOfOrder", f'["{A_UUID}", 3]', f'["{A_UUID}", "3"]', (A_UUID, 3)),
    ],
)
def test_pk_override_is_read_by_the_primary_key_of_the_model(model, given, text, key):
    target = target_of(f"{MODULE}.{model}.remind", pk_override=given)
    assert target.instance_pk == text
    assert pk_of(target) == key


@pytest.mark.parametrize(
    ("model", "given", "shown"),
    [
        ("Order", "seven", "'seven' can't be the primary key of Order (BigAutoField)"),
        ("Order", math.inf, "inf"),
        ("Order", object(), "object"),
        ("Order", samples.Order(), "Order can't be"),
        ("UuidOrder", 1.5, "1.5"),
        ("UuidOrder", "not-a-uuid", "'not-a-uuid'"),
        ("TextOrder", samples.Order(), "Order can't be"),
        ("ItemOfOrder", 7, "7 can't be"),
        ("ItemOfOrder", (A_UUID,), "UUID"),
        ("ItemOfOrder", (A_UUID, None), "None"),
        ("ItemOfOrder", "[1", "'[1'"),
        ("LossyOrder", {"a": 1}, "dict"),
    ],
)
def test_a_pk_override_that_the_model_can_not_read_is_refused(model, given, shown):
    with pytest.raises(InvalidCallable) as refused:
        target_of(f"{MODULE}.{model}.remind", pk_override=given)
    assert shown in str(refused.value)
    assert model in str(refused.value)
    assert refused.value.field == "pk_override"


@pytest.mark.parametrize("name", ["plain", "Plain.of_class", "Plain.static", "Order.nightly", "Order.static"])
def test_pk_override_is_refused_for_what_is_no_instance_method(name):
    with pytest.raises(InvalidCallable, match="pk_override is for instance methods.*Leave pk_override out") as refused:
        target_of(f"{MODULE}.{name}", pk_override=7)
    assert refused.value.field == "pk_override"


def deleted():
    row = samples.saved(samples.Order, id=7)
    row.id = None
    return row.remind


class TheSame:
    """Is equal to everything, and so must not be taken for the function it has replaced."""

    def __eq__(self, other):
        return True

    __hash__ = None


def historical_model():
    """Make a model as a migration's app registry does, with a method that came from a mixin."""
    meta = type("Meta", (), {"app_label": "samples", "apps": Apps()})
    body = {"__module__": "__fake__", "Meta": meta}
    return type("Order", (samples.Mixin, models.Model), body)


REFUSED_OBJECTS = [
    (None, "None can't be a task: there is nothing to call. Give a function"),
    (7, "the type int can't be a task: it can't be called"),
    (b"shop.jobs.send", "the type bytes can't be a task: it can't be called"),
    (samples.a_lambda, "it is a lambda"),
    (lambda message: None, "it is a lambda"),
    (samples.nested(), "nested in a function"),
    (samples.nameless, "does not use functools.wraps"),
    (samples.a_partial, "it is a partial"),
    (functools.partialmethod(samples.plain), "it is a partial"),
    (samples.Order.fixed, "it is a partialmethod"),
    (samples.saved(samples.Order, id=7).fixed, "it is a partial"),
    (samples, "it is a module"),
    (samples.Plain, "it is a class"),
    (samples.an_object, "it is an object with __call__"),
    (functools.cache(samples.plain), "it is an object with __call__"),
    (len, "written in C"),
    ("text".upper, "written in C"),
    (str.upper, "written in C"),
    (dict.fromkeys, "written in C"),
    (samples.generator, "it is a generator function"),
    (samples.async_generator, "it is a generator function"),
    (samples.Plain.method, "Plain is not a Django model"),
    (samples.an_object.method, "it is bound to an object of the type Plain"),
    (samples.Order.remind, "Sample is abstract"),
    (samples.ProxyOrder.only_proxy, "instance method without an instance"),
    (samples.Order().remind, "has not been saved"),
    (samples.UuidOrder().remind, "has not been saved"),
    (deleted(), "has not been saved"),
    (samples.hidden, "leads to something else"),
    (samples.wrapped.__wrapped__, "leads to something else"),
    (samples.saved(samples.ChildOrder, id=7, order_ptr_id=7).parent_remind, "leads to something else"),
    (samples.monkeypatched(samples.saved(samples.Order, id=7)), "Order has no 'two_parameters'"),
    (samples.saved(samples.Order, id=7).delete, "leads to something else|Django's own"),
    (samples.saved(samples.Order, id=7)._private, "leading underscore"),
    (samples.saved(samples.LossyOrder, key={"a": 1}).remind, "can't be the primary key"),
    (samples.saved(samples.ItemOfOrder, tenant=A_UUID, number=None).remind, "has not been saved"),
]


@pytest.mark.parametrize(
    ("given", "why"), REFUSED_OBJECTS, ids=[f"{number} {why}" for number, (_, why) in enumerate(REFUSED_OBJECTS)]
)
def test_an_object_that_no_worker_could_find_or_call_is_refused(given, why):
    with pytest.raises(InvalidCallable, match=why) as refused:
        target_of(given)
    assert str(refused.value).endswith((".", "?"))


REFUSED_PATHS = [
    ("", "it is empty"),
    ("plain", "has no dot"),
    ("shop.jobs.send digest", "other characters"),
    (f"{MODULE}.a_lambda", "it is a lambda"),
    (f"{MODULE}.a_partial", "it is a partial"),
    (f"{MODULE}.Order.fixed", "it is a partialmethod"),
    (MODULE, "it is a module"),
    (f"{MODULE}.Plain", "it is a class"),
    (f"{MODULE}.an_object", "object with __call__"),
    (f"{MODULE}.a_constant", "it can't be called"),
    (f"{MODULE}.nothing", "there is nothing to call"),
    (f"{MODULE}.bound_to_an_object", "it is bound to an object that only exists in this process"),
    (f"{MODULE}.generator", "it is a generator function"),
    (f"{MODULE}.async_generator", "it is a generator function"),
    (f"{MODULE}.Plain.method", "Plain is not a Django model"),
    (f"{MODULE}.Order.remind", "instance method without an instance"),
    (f"{MODULE}.Order.delete", "Django's own"),
    (f"{MODULE}.Order._private", "leading underscore"),
    (f"{MODULE}.Order.__str__", "double underscores"),
    (f"{MODULE}.Sample.remind", "Sample is abstract"),
    (f"{MODULE}.functools.wraps", "only another name of the module functools"),
    (f"{MODULE}.Order.objects.update", "neither a module nor a class"),
    ("os.system", "written in C"),
    ("subprocess.call", r"its parameters are \(\*popenargs, timeout, \*\*kwargs\)"),
    ("django.core.management.call_command", "its parameters are"),
]


@pytest.mark.parametrize(("path", "why"), REFUSED_PATHS)
def test_a_path_to_what_no_worker_could_call_is_refused(path, why):
    with pytest.raises(InvalidCallable, match=why) as refused:
        target_of(path)
    assert repr(path) in str(refused.value)
    assert refused.value.field == "callable"


@pytest.mark.parametrize(
    "name", ["Order.delete", "Order.full_clean", "Order._private", "Sample.remind", "Plain.method"]
)
def test_pk_override_opens_no_door_to_methods_that_are_refused(name):
    with pytest.raises(InvalidCallable):
        target_of(f"{MODULE}.{name}", pk_override=7)
    with pytest.raises(InvalidCallable):
        model_of(f"{MODULE}.{name}")


WRONG_SIGNATURES = [
    ("no_parameter", "()"),
    ("two_parameters", "(message, other)"),
    ("optional_second", "(message, other)"),
    ("another_name", "(msg)"),
    ("keyword_only", "(*, message)"),
    ("any_number", "(*message)"),
    ("any_keywords", "(message, **keywords)"),
    ("wrapped_wrong", "(message, other)"),
    ("Plain.wrong_of_class", "(first, message)"),
]


@pytest.mark.parametrize(("name", "found"), WRONG_SIGNATURES)
def test_wrong_parameters_are_refused_showing_those_found_and_those_wanted(name, found):
    with pytest.raises(InvalidCallable) as refused:
        target_of(f"{MODULE}.{name}")
    assert f"its parameters are {found}. A task function takes exactly one" in str(refused.value)
    assert "(message)" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wrong", r"its parameters are \(message, other\)"),
        ("without_message", r"its parameters are \(\)"),
        ("without_self", "its parameters can't be read"),
    ],
)
def test_wrong_parameters_of_an_instance_method_are_shown_without_self(name, why):
    with pytest.raises(InvalidCallable, match=why):
        target_of(getattr(samples.saved(samples.Order, id=7), name))
    with pytest.raises(InvalidCallable, match=why):
        target_of(f"{MODULE}.Order.{name}", pk_override=7)


def test_a_worker_can_check_the_parameters_again():
    check_signature(samples.saved(samples.Order, id=7).remind)
    check_signature(samples.plain)
    with pytest.raises(InvalidCallable, match=r"shop\.jobs\.send"):
        check_signature(samples.two_parameters, path="shop.jobs.send")
    with pytest.raises(InvalidCallable, match=r"callable_samples\.two_parameters"):
        check_signature(samples.two_parameters)


def test_function_of_refuses_an_instance_method_and_model_of_anything_else():
    with pytest.raises(InvalidCallable, match="without an instance"):
        function_of(f"{MODULE}.Order.remind")
    for name in ("plain", "Plain.static", "Order.nightly"):
        with pytest.raises(InvalidCallable, match="has no row"):
            model_of(f"{MODULE}.{name}")


def test_a_method_of_a_historical_model_is_refused_naming_the_way_out():
    model = historical_model()
    row = samples.saved(model, id=7)
    with pytest.raises(InvalidCallable, match=r"historical model.*its dotted path.*pk_override=row\.pk"):
        target_of(row.from_mixin)


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
def test_a_function_of_the_running_script_is_refused(monkeypatch, module):
    def send(message):
        """Look as if written in a script."""

    send.__qualname__, send.__module__ = "send", module
    with pytest.raises(InvalidCallable, match=r"in the script.*Move it to a module"):
        target_of(send)


def test_a_function_that_was_deleted_from_its_module_is_refused(monkeypatch):
    plain = samples.plain
    monkeypatch.delattr(samples, "plain")
    with pytest.raises(CallableNotFound, match="callable_samples has no 'plain'"):
        target_of(plain)


@pytest.mark.parametrize("other", [samples.wrapped, samples.an_object, TheSame(), None])
def test_a_function_that_was_replaced_in_its_module_is_refused(monkeypatch, other):
    plain = samples.plain
    monkeypatch.setattr(samples, "plain", other)
    with pytest.raises(InvalidCallable, match="leads to something else"):
        target_of(plain)


def test_a_class_method_that_was_replaced_is_refused(monkeypatch):
    of_class = samples.Plain.of_class
    monkeypatch.setattr(samples.Plain, "of_class", classmethod(lambda cls, message: None))
    with pytest.raises(InvalidCallable, match="leads to something else"):
        target_of(of_class)


INFOS = [
    (
        Target(path=f"{MODULE}.plain"),
        {"func_type": "function", "module_name": MODULE, "func_name": "plain", "func_path": f"{MODULE}.plain"},
    ),
    (
        Target(path=f"{MODULE}.Plain.Inner.static"),
        {
            "func_type": "staticmethod",
            "module_name": MODULE,
            "class_name": "Inner",
            "class_path": f"{MODULE}.Plain.Inner",
            "func_name": "static",
            "func_path": f"{MODULE}.Plain.Inner.static",
        },
    ),
    (
        Target(path=f"{MODULE}.UuidOrder.remind", instance_pk=str(A_UUID), instance_db="other"),
        {
            "func_type": "instancemethod",
            "module_name": MODULE,
            "class_name": "UuidOrder",
            "class_path": f"{MODULE}.UuidOrder",
            "model_pk": A_UUID,
            "func_name": "remind",
            "func_path": f"{MODULE}.UuidOrder.remind",
        },
    ),
]


@pytest.mark.parametrize(("target", "described"), INFOS)
def test_info_describes_a_target_in_the_old_words(target, described):
    assert info(target) == described


DECLARED = [
    (samples.plain, "plain"),
    (samples.awaited, "awaited"),
    (samples.wrapped, "wrapped"),
    (vars(samples.Plain)["of_class"], "Plain.of_class"),
    (vars(samples.Plain)["of_class"].__func__, "Plain.of_class"),
    (vars(samples.Plain)["wrapped_of_class"], "Plain.wrapped_of_class"),
    (vars(samples.Plain)["static"], "Plain.static"),
    (vars(samples.Plain)["static"].__func__, "Plain.static"),
    (vars(samples.Plain.Inner)["static"], "Plain.Inner.static"),
    (samples.Plain.method, "Plain.method"),
    (samples.Child.of_class, "Child.of_class"),
]


@pytest.mark.parametrize(("function", "name"), DECLARED)
def test_a_function_knows_its_path_before_its_module_is_complete(function, name):
    assert declared_path(function) == f"{MODULE}.{name}"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda message: None, "lambda"),
        (samples.nested(), "nested"),
        (samples.two_parameters, "its parameters"),
        (samples.generator, "generator"),
        (samples.Order.without_message, "its parameters"),
        (samples.Order.without_self, "its parameters"),
        (vars(samples.Plain)["wrong_of_class"], "its parameters"),
        (staticmethod(samples.two_parameters), "its parameters"),
        (samples.Plain, "class"),
        (len, "written in C"),
        (None, "nothing to call"),
        (property(samples.plain), "can't be called"),
    ],
)
def test_what_can_be_known_is_refused_at_the_declaration(function, why):
    with pytest.raises(InvalidCallable, match=why):
        declared_path(function)
