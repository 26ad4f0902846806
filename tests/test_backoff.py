import logging

import pytest

from sisy.backoff import Backoff

LOG = logging.getLogger("sisy.test_backoff")


@pytest.fixture(autouse=True)
def listen(caplog):
    caplog.set_level(logging.INFO, logger=LOG.name)


def backoff(**options):
    return Backoff("Sending", meanwhile="workers poll", log=LOG, **options)


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [1, 2, 4, 8, 16, 30, 30, 30]),
        ({"first": 0.5}, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        ({"longest": 5.0}, [1, 2, 4, 5, 5]),
        ({"longest": 4.0}, [1, 2, 4, 4]),
        ({"first": 9.0, "longest": 5.0}, [5, 5]),
    ],
)
def test_each_wait_is_twice_the_one_before_up_to_the_longest(options, waits):
    trouble = backoff(**options)
    assert [trouble.failed("no") for _ in waits] == waits


def test_the_wait_can_be_read_and_is_zero_while_all_is_well():
    trouble = backoff()
    assert trouble.seconds == 0
    trouble.failed("no")
    trouble.failed("no")
    assert trouble.seconds == 2
    trouble.worked()
    assert trouble.seconds == 0


def test_after_a_success_it_begins_anew():
    trouble = backoff()
    trouble.failed("no")
    trouble.failed("no")
    trouble.worked()
    assert trouble.failed("no") == 1


def test_each_failure_is_one_warning_that_says_what_goes_on(caplog):
    trouble = backoff()
    trouble.failed(ConnectionError("refused"))
    trouble.failed("it is full")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Sending failed: ConnectionError: refused. Until it works, workers poll; next try in 1 s"),
        ("WARNING", "Sending failed: it is full. Until it works, workers poll; next try in 2 s"),
    ]


def test_the_end_of_an_outage_is_said_once(caplog):
    trouble = backoff()
    trouble.worked()
    trouble.failed("no")
    trouble.worked()
    trouble.worked()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[-1].getMessage() == "Sending works again"


def test_blanks_around_an_errors_text_are_left_out(caplog):
    backoff().failed(ValueError("server closed the connection\n"))
    assert "ValueError: server closed the connection. Until" in caplog.text


def test_an_error_without_a_text_is_named_without_a_colon_after_it(caplog):
    backoff().failed(TimeoutError())
    assert "Sending failed: TimeoutError. Until" in caplog.text
