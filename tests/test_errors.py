import inspect

import pytest

from sisy import errors
from sisy.errors import InvalidInput, Retry, SisyError, SisyTimezoneWarning, Skip

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]
ERRORS = [value for value in CLASSES if value is not SisyTimezoneWarning]
ABOUT_INPUT = [
    "InvalidInput",
    "InvalidCallable",
    "CallableNotFound",
    "CallableNotAllowed",
    "InvalidSchedule",
    "InvalidTime",
    "InvalidUserdata",
    "InvalidSetting",
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_child_of_sisy_error(error):
    assert issubclass(error, SisyError)


@pytest.mark.parametrize("name", ABOUT_INPUT)
def test_an_error_about_input_is_a_value_error_too(name):
    assert issubclass(getattr(errors, name), (InvalidInput, ValueError))
    assert issubclass(getattr(errors, name), ValueError)


def test_no_other_error_is_a_value_error():
    assert sorted(error.__name__ for error in ERRORS if issubclass(error, ValueError)) == sorted(ABOUT_INPUT)


@pytest.mark.parametrize("name", ABOUT_INPUT)
def test_an_error_about_input_names_the_field_at_fault(name):
    kind = getattr(errors, name)
    error = kind("It is wrong. Mend it.", field="schedule")
    assert (str(error), error.field) == ("It is wrong. Mend it.", "schedule")
    assert kind("It is wrong. Mend it.").field is None


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_says_what_it_means(error):
    assert error.__doc__
    assert error.__doc__ != (error.__base__.__doc__ or "")


def test_retry_and_skip_carry_what_a_task_function_says():
    assert str(Retry()) == "the task asked to be run again"
    assert Retry().delay is None
    assert (str(Retry("the bank sleeps", delay=60)), Retry("", delay=60).delay) == ("the bank sleeps", 60)
    assert str(Skip("nothing to do")) == "nothing to do"


def test_the_warning_about_a_time_zone_is_shown_to_users():
    assert issubclass(SisyTimezoneWarning, UserWarning)
