"""userdata: read, changed in place, written back when a run ends however it ends, and never over what others wrote."""

import enum
from datetime import timedelta
from types import MappingProxyType

import pytest

import sisy
from sisy.errors import Cancelled
from sisy.models import Run, Task
from sisy.testing import drain, run_due
from tests.project.shop import chores, tasks
from tests.project.shop.rows import NOON, at, claim, end, every_minute, expire, statuses, stored, tick_and_claim

pytestmark = pytest.mark.django_db


def run_doing(function, now=NOON):
    with chores.doing(function):
        return run_due(now)


# -- written back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [tasks.count, tasks.acount])
def test_what_is_changed_in_place_is_there_in_the_next_run(function):
    task = every_minute(function, userdata={"n": 0})
    for minutes in range(3):
        run_due(at(minutes))
    assert stored(task).userdata == {"n": 3}


def test_a_change_deep_inside_is_written_back():
    task = every_minute(userdata={"a": [{"b": 1}]})
    run_doing(lambda message: message["task"].userdata["a"][0].update(b=2, c=(1, 2)))
    assert stored(task).userdata == {"a": [{"b": 2, "c": [1, 2]}]}


def test_a_replaced_dict_is_written_back():
    task = every_minute(userdata={"a": 1})
    run_doing(lambda message: setattr(message["task"], "userdata", {"b": 2}))
    assert stored(task).userdata == {"b": 2}


def test_it_is_written_back_when_the_function_raised():
    task = every_minute(userdata={"n": 0})

    def change_and_raise(message):
        message["task"].userdata["n"] = 1
        raise RuntimeError("after the change")

    (run,) = run_doing(change_and_raise)
    assert (run.status, stored(task).userdata) == ("FAILED", {"n": 1})


@pytest.mark.parametrize("error", [sisy.Skip("nothing to do"), Cancelled("stop"), SystemExit(1)])
def test_it_is_written_back_however_the_run_ended(error):
    task = every_minute(userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    run.task.userdata["n"] = 1
    end(run, error=error)
    assert stored(task).userdata == {"n": 1}


def test_it_is_written_back_before_the_next_attempt():
    task = every_minute(userdata={"n": 0}, max_attempts=3, retry_backoff=0)

    def change_and_raise(message):
        message["task"].userdata["n"] += 1
        raise RuntimeError("again")

    with chores.doing(change_and_raise):
        run_due(NOON)
    assert stored(task).userdata == {"n": 3}


def test_the_written_userdata_is_what_the_caller_of_run_iterations_reads_between_runs():
    task = Task.run_iterations(tasks.count, 3, schedule="* * * * *", userdata={"n": 5}, delay_until=NOON)
    run_due(NOON)
    task.refresh_from_db()
    assert task.userdata == {"n": 6}


def test_only_that_column_is_written_back():
    task = every_minute(tasks.count, userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    Task.objects.filter(pk=task.pk).update(label="renamed", priority=5)
    run.task.userdata["n"] = 1
    run.task.label = "not saved"
    end(run)
    row = stored(task)
    assert (row.userdata, row.label, row.priority) == ({"n": 1}, "renamed", 5)


# -- nothing is written over what others wrote -----------------------------------------------------


def test_a_run_that_only_read_it_does_not_undo_what_somebody_changed_meanwhile():
    task = every_minute(userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    assert run.task.userdata["n"] == 0
    task.userdata["n"] = 7
    task.save()
    end(run)
    assert stored(task).userdata == {"n": 7}


def test_a_run_that_put_it_back_as_it_was_does_not_undo_what_somebody_changed_meanwhile():
    task = every_minute(userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    run.task.userdata["n"] = 1
    run.task.userdata["n"] = 0
    task.userdata["n"] = 7
    task.save()
    end(run)
    assert stored(task).userdata == {"n": 7}


def test_a_run_whose_claim_was_taken_writes_nothing_back():
    task = every_minute(userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    expire(run)
    claim_again = tick_and_claim(at(0.5))
    run.task.userdata["n"] = 99
    assert not end(run)
    assert stored(task).userdata == {"n": 0}
    claim_again[0].task.userdata["n"] = 1
    assert end(claim_again[0])
    assert stored(task).userdata == {"n": 1}


def test_two_runs_claimed_together_do_not_share_one_dict():
    task = every_minute(overlap="allow", userdata={"n": 0})
    task.run_asap()
    task.run_asap()
    first, second = claim(NOON)
    first.task.userdata["n"] = 1
    assert second.task.userdata == {"n": 0}
    end(first)
    end(second)
    assert stored(task).userdata == {"n": 1}


def test_a_stale_save_outside_of_runs_does_not_undo_what_a_run_wrote():
    stale = every_minute(tasks.count, userdata={"n": 0})
    run_due(NOON)
    stale.label = "renamed"
    stale.save()
    assert stored(stale).userdata == {"n": 1}


# -- task.save() in the run ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["save", "save_update_fields", "save twice"])
def test_it_is_kept_through_a_save_in_the_run(how):
    task = every_minute(userdata={"n": 0})

    def change_and_save(message):
        message["task"].userdata["n"] = 1
        message["task"].save(**({"update_fields": ["label"]} if how == "save_update_fields" else {}))
        if how == "save twice":
            message["task"].save()

    run_doing(change_and_save)
    assert stored(task).userdata == {"n": 1}


def test_what_is_changed_after_a_save_in_the_run_is_kept_too():
    task = every_minute(userdata={"n": 0})

    def change_save_change(message):
        message["task"].userdata["n"] = 1
        message["task"].save()
        message["task"].userdata["n"] += 1

    run_doing(change_save_change)
    assert stored(task).userdata == {"n": 2}


def test_what_is_changed_after_a_save_through_a_reference_taken_before_it_is_kept_too():
    task = every_minute(userdata={"n": 0})

    def change_save_change(message):
        userdata = message["task"].userdata
        userdata["n"] = 1
        message["task"].save()
        userdata["n"] = 2

    run_doing(change_save_change)
    assert stored(task).userdata == {"n": 2}


def test_what_is_changed_after_creation_through_a_reference_taken_before_it_is_kept_too():
    task = Task.objects.get(pk=every_minute(userdata={"n": 0}).pk)
    userdata = task.userdata
    task.label = "renamed"
    task.save()
    userdata["n"] = 1
    task.save()
    assert stored(task).userdata == {"n": 1}


def test_what_is_changed_after_a_refresh_in_the_run_is_kept():
    task = every_minute(userdata={"n": 0})

    def refresh_and_change(message):
        message["task"].userdata["lost"] = True
        message["task"].refresh_from_db()
        message["task"].userdata["n"] = 1

    run_doing(refresh_and_change)
    assert stored(task).userdata == {"n": 1}


def test_what_is_changed_after_a_refresh_of_another_field_in_the_run_is_kept():
    task = every_minute(userdata={"n": 0})

    def change_and_refresh(message):
        message["task"].userdata["n"] = 1
        message["task"].refresh_from_db(fields=["enabled"])

    run_doing(change_and_refresh)
    assert stored(task).userdata == {"n": 1}


def test_a_save_in_the_run_neither_repeats_nor_loses_a_slot():
    task = every_minute()

    def rename(message):
        message["task"].label = f"{message['task'].current_run.slot:%M}"
        message["task"].save()

    with chores.doing(rename):
        for minutes in (0, 0.5, 1, 1.5, 2):
            run_due(at(minutes))
    assert [run.slot for run in Run.objects.order_by("pk")] == [at(0), at(1), at(2)]
    assert (stored(task).label, stored(task).runs_created) == ("02", 3)


def test_a_save_in_the_run_after_ticks_that_came_meanwhile_does_not_set_them_back():
    task = every_minute(overlap="allow")
    (run,) = tick_and_claim(NOON)
    tick_and_claim(at(1))
    run.task.label = "renamed"
    run.task.save()
    end(run)
    assert (stored(task).next_run, stored(task).runs_created) == (at(2), 2)


def test_a_function_may_change_its_own_schedule():
    task = every_minute(misfire="all")

    def slow_down(message):
        message["task"].schedule = "*/5 * * * *"
        message["task"].save()

    run_doing(slow_down)
    assert stored(task).schedule == "*/5 * * * *"
    assert stored(task).next_run.minute % 5 == 0


def test_a_function_may_pause_its_own_task():
    task = every_minute()
    run_doing(lambda message: message["task"].pause())
    run_due(at(1))
    assert (statuses(), stored(task).enabled) == (["SUCCESSFUL"], False)


# -- the column itself -----------------------------------------------------------------------------


def test_a_new_value_of_the_column_is_saved_as_well():
    """A form and the admin set `_extra_data`, not `userdata`."""
    task = every_minute(userdata={"n": 0})
    row = stored(task)
    row._extra_data = {"n": 1}
    row.save()
    assert stored(task).userdata == {"n": 1}


def test_a_change_in_place_of_the_column_is_written_back():
    """`_extra_data` is an old name that stays."""
    task = every_minute(userdata={"n": 0})
    run_doing(lambda message: message["task"]._extra_data.update(n=1))
    assert stored(task).userdata == {"n": 1}


# -- what cannot be stored -------------------------------------------------------------------------


class Silent:
    def __repr__(self):
        raise RuntimeError("asked for its repr")


def put(value):
    return lambda message: message["task"].userdata.update(bad=value)


def put_itself(message):
    message["task"].userdata["bad"] = message["task"].userdata


def put_mixed_keys(message):
    message["task"].userdata[1] = "one"


UNSTORABLE = {
    "NaN": put(float("nan")),
    "an object": put(object()),
    "an object without a repr": put(Silent()),
    "bytes": put(b"x"),
    "a NUL": put("a\x00b"),
    "a lone surrogate": put("\ud800"),
    "too much": put("x" * 70_000),
    "too long a number": put(10**5000),
    "a set": put({1}),
    "itself": put_itself,
    "a number and a text as keys": put_mixed_keys,
    "too deep": lambda message: message["task"].userdata.update(bad=nested(5000)),
}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("function", UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_change_that_cannot_be_stored_is_dropped_and_the_run_says_so(function):
    task = every_minute(userdata={"n": 0}, label="bad")
    other = every_minute(tasks.count, userdata={"n": 0}, label="good")
    run_doing(function)
    run = Run.objects.get(label="bad")
    assert run.is_over
    assert "userdata" in run.reason
    assert stored(task).userdata == {"n": 0}
    assert stored(other).userdata == {"n": 1}


def test_a_bad_change_does_not_hide_why_the_run_failed():
    every_minute()

    def change_and_raise(message):
        message["task"].userdata["bad"] = object()
        raise RuntimeError("the real trouble")

    (run,) = run_doing(change_and_raise)
    assert (run.status, "the real trouble" in run.traceback) == ("FAILED", True)
    assert "the real trouble" in run.reason
    assert "userdata" in run.reason


def test_replacing_it_with_something_bad_fails_where_it_is_done():
    task = every_minute(userdata={"n": 0})
    (run,) = run_doing(lambda message: setattr(message["task"], "userdata", [1]))
    assert (run.status, stored(task).userdata) == ("FAILED", {"n": 0})
    assert "InvalidUserdata" in run.traceback


class Color(str, enum.Enum):  # noqa: UP042 - str() of such a one is its name, not its value
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


def test_enums_are_stored_as_their_values():
    task = every_minute(userdata={"color": Color.RED, "size": Size.LARGE, Color.RED: 1})
    assert stored(task).userdata == {"color": "red", "size": 3, "red": 1}


@pytest.mark.parametrize(
    "value",
    [
        {"é": "ü\U0001f600"},
        {"": ""},
        {"n": [0, -1, 1.5, 2**53, True, None]},
        {"quotes": "'\"\\ %s {}"},
        {"a": {"b": {}}},
    ],
)
def test_everything_json_can_say_comes_back_as_it_was(value):
    task = every_minute(userdata=value)
    seen = []
    run_doing(lambda message: seen.append(message["task"].userdata))
    assert (seen, stored(task).userdata) == ([value], value)


@pytest.mark.parametrize("value", [[1], "text", 7, MappingProxyType({}), {1: 2}, {"a": timedelta(1)}])
def test_anything_else_is_refused_at_creation(value):
    with pytest.raises(ValueError, match="userdata"):
        every_minute(userdata=value)
    assert not Task.objects.exists()


def test_just_64_kilobytes_are_allowed():
    text = "x" * (65536 - len('{"a": ""}'))
    task = every_minute(userdata={"a": text})
    assert stored(task).userdata == {"a": text}
    with pytest.raises(ValueError, match=r"65537 bytes"):
        every_minute(userdata={"a": text + "x"})


def test_the_userdata_of_a_deleted_task_is_not_looked_for():
    task = every_minute(userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    task.delete()
    run.task.userdata["n"] = 1
    assert end(run)
    assert drain(at(1)) == []
    assert statuses() == ["SUCCESSFUL"]
