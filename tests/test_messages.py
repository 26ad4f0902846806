import pytest

from sisy.messages import QUEUE_NAME, Nudge, Poll, Tick, from_message, run_channels


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Tick(), {"type": "sisy.tick", "v": 1}),
        (Nudge(), {"type": "sisy.nudge", "v": 1}),
        (Poll(), {"type": "sisy.poll", "v": 1}),
    ],
)
def test_a_message_is_its_type_and_a_version_and_nothing_else(value, message):
    assert value.to_message() == message
    assert value.to_message() is not value.to_message()


@pytest.mark.parametrize("value", [Tick(), Nudge()])
def test_what_was_sent_is_understood(value):
    assert from_message(value.to_message()) == value


@pytest.mark.parametrize(
    "message",
    [
        None,
        "sisy.tick",
        b"\x81",
        7,
        ["type", "sisy.tick"],
        {},
        {"v": 1},
        {"type": None},
        {"type": ""},
        {"type": "sisy"},
        {"type": "sisy.tick "},
        {"type": "SISY.TICK"},
        {"type": "sisy.poll", "v": 1},
        {"type": b"sisy.tick"},
        {"type": ["sisy.tick"]},
        {"type": "dispatch"},
        {"type": "sisy.ring", "v": 1},
        {"type": "websocket.send", "text": "x"},
    ],
)
def test_anything_else_is_none_of_ours(message):
    assert from_message(message) is None


def test_a_nudge_is_no_tick():
    assert Tick() != Nudge()
    assert Tick() == Tick()
    assert len({Tick(), Tick(), Nudge()}) == 2


@pytest.mark.parametrize(
    ("queues", "channels"),
    [
        (None, ["sisy.run"]),
        (frozenset({"mail"}), ["sisy.run.mail"]),
        (frozenset({"mail", "default", "A-1_b"}), ["sisy.run.A-1_b", "sisy.run.default", "sisy.run.mail"]),
        (frozenset(), []),
    ],
)
def test_a_worker_listens_to_the_common_channel_or_to_those_of_its_queues(queues, channels):
    assert run_channels("sisy.run", queues) == channels


@pytest.mark.parametrize("name", ["default", "a", "MAIL-2_x", "q" * 40])
def test_what_a_queue_may_be_called(name):
    assert QUEUE_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "café", "q" * 65, "mail\n", "a!b", "a/b"])
def test_what_a_queue_may_not_be_called(name):
    assert not QUEUE_NAME.fullmatch(name)
