"""`manage.py sisy_schedules`: the list, and the comparison of what schedules meant with what they mean."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from sisy import meaning
from sisy.cron import Schedule
from sisy.management.commands import sisy_schedules
from sisy.models import Task, task_with_callable
from tests.project.shop import chores
from tests.project.shop.rows import put_in, stored

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def saved(**columns: Any) -> Task:
    task = task_with_callable(chores.does, **columns)
    task.save()
    return task


def run(*arguments: Any) -> str:
    output = StringIO()
    call_command("sisy_schedules", *map(str, arguments), stdout=output)
    return output.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedules.json"


def changed(file: Path, **how: Any) -> str:
    """Return what a comparison that finds something prints."""
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("sisy_schedules", compare=file, stdout=output, **how)
    assert ended.value.code == 1
    return output.getvalue()


def rewrite(file: Path, **entry: Any) -> None:
    """Let a saved file say something else of its first schedule, as if another version had written it."""
    content = json.loads(file.read_text())
    content["schedules"][0] |= entry
    content["versions"]["croniter"] = "6.2.0"
    file.write_text(json.dumps(content))


# The list -------------------------------------------------------------------------------------------------------------


def test_the_list_has_words_and_slots_in_the_task_s_own_zone() -> None:
    digest = saved(label="digest", schedule="30 9 * * mon-fri", timezone="Europe/Paris")
    paused = saved(label="paused", schedule="@every 90s")
    paused.pause()
    Task.run_once(chores.does, delay_until=NOW + timedelta(days=1), label="once")
    lines = run("--slots", 2).splitlines()
    assert lines[:4] == [
        f"{digest.pk}  digest  30 9 * * mon-fri  (enabled)",
        "    At 09:30, Monday to Friday, Europe/Paris",
        "    2026-03-23 09:30:00 CET",
        "    2026-03-24 09:30:00 CET",
    ]
    assert lines[4] == f"{paused.pk}  paused  @every 90s  (paused)"
    assert "once" not in "".join(lines)


def test_the_list_as_json() -> None:
    task = saved(label="digest", schedule="30 9 * * mon-fri", timezone="Europe/Paris", iterations=2)
    told = json.loads(run("--json"))
    assert told["versions"] == sisy_schedules.versions()
    assert told["tasks"] == [
        {
            "id": task.pk, "label": "digest", "schedule": "30 9 * * mon-fri", "timezone": "Europe/Paris",
            "description": "At 09:30, Monday to Friday, Europe/Paris", "state": "enabled", "error": None,
            "next_run": "2026-03-23T08:30:00+00:00",
            "slots": ["2026-03-23T08:30:00+00:00", "2026-03-24T08:30:00+00:00"],
        }
    ]  # fmt: skip


def test_a_schedule_that_can_t_be_read_is_listed_with_its_error() -> None:
    bad, zoneless, good = saved(label="bad"), saved(label="zoneless"), saved(label="good", schedule="0 9 * * *")
    put_in(bad, schedule="99 * * * *")
    put_in(zoneless, timezone="Middle/Earth")
    lines = run("--slots", 0).splitlines()
    assert len(lines) == 6
    assert "minute field has '99'" in lines[1]
    assert "'Middle/Earth' is not a known time zone" in lines[3]
    assert lines[4:] == [f"{good.pk}  good  0 9 * * *  (enabled)", "    At 09:00, UTC"]


def test_a_parked_task_is_listed_with_the_error_in_its_row() -> None:
    task = saved(label="gone")
    put_in(task, enabled=False, error="there is no such function")
    assert run().splitlines() == [f"{task.pk}  gone  * * * * *  (parked)", "    there is no such function"]


def test_more_tasks_than_one_query_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sisy_schedules, "_BATCH", 2)
    tasks = [saved(label=f"{n}") for n in range(5)]
    assert [entry["id"] for entry in json.loads(run("--json"))["tasks"]] == [task.pk for task in tasks]


@pytest.mark.parametrize("number", ["-1", "some", "1.5", "1001"])
def test_a_wrong_number_of_slots_is_refused(number: str) -> None:
    with pytest.raises(CommandError, match="argument --slots: .* is not a whole number from 0 to 1000"):
        run(f"--slots={number}")


# Save and compare -----------------------------------------------------------------------------------------------------


def test_the_same_versions_mean_the_same(file: Path) -> None:
    for schedule in ("*/7 * * * *", "0 0 29 2 *", "H H * * *", "@every 90s", "@monthly", "0 9 * * mon-tue#1"):
        saved(schedule=schedule, timezone="America/New_York")
    saved(schedule="@monthly", timezone="America/New_York", label="another one")
    assert run("--save", file) == f"sisy_schedules: 6 schedules of 7 tasks saved in {file}.\n"
    assert run("--compare", file) == "sisy_schedules: 0 tasks mean something else; the versions are the same.\n"


def test_what_means_something_else_is_named_with_its_tasks_and_slots(file: Path) -> None:
    """The file says that 9 o'clock was an hour later in summer, as before a zone gave up its summer time."""
    tasks = [saved(schedule="0 9 * * *", timezone="Europe/Paris", label=label) for label in ("digest", "bread")]
    run("--save", file)
    content = json.loads(file.read_text())
    slots = [datetime.fromisoformat(slot) for slot in content["schedules"][0]["slots"]]
    winter = [slot if slot.hour == 8 else slot + timedelta(hours=1) for slot in slots]
    rewrite(file, slots=[slot.isoformat() for slot in winter])
    summer = sum(slot.hour != 8 for slot in slots)
    assert changed(file).splitlines() == [
        f"0 9 * * *  Europe/Paris: {tasks[0].pk} digest, {tasks[1].pk} bread",
        f"    gone: 2026-03-29 10:00:00 CEST, 2026-03-30 10:00:00 CEST, 2026-03-31 10:00:00 CEST and {summer - 3} more",
        f"    new: 2026-03-29 09:00:00 CEST, 2026-03-30 09:00:00 CEST, 2026-03-31 09:00:00 CEST and {summer - 3} more",
        f"sisy_schedules: 2 tasks mean something else; croniter 6.2.0 -> {sisy_schedules.versions()['croniter']}.",
    ]
    told = json.loads(changed(file, json=True))
    (change,) = told["changed"]
    assert (change["schedule"], change["error"], len(change["gone"])) == ("0 9 * * *", None, summer)
    assert [task["id"] for task in change["tasks"]] == [task.pk for task in tasks]
    assert (told["then"]["croniter"], told["now"]) == ("6.2.0", sisy_schedules.versions())


def test_a_schedule_that_is_refused_now_is_named(file: Path) -> None:
    task = saved(label="odd", schedule="0 9 * * *")
    run("--save", file)
    rewrite(file, schedule="5-5 * * * *")
    put_in(task, schedule="5-5 * * * *")
    assert "is refused: '5-5 * * * *'" in changed(file)


def test_a_zone_that_is_gone_now_is_named(file: Path) -> None:
    task = saved(label="odd", schedule="0 9 * * *", timezone="Europe/Paris")
    run("--save", file)
    rewrite(file, timezone="Europe/Lutetia")
    put_in(task, timezone="Europe/Lutetia")
    output = changed(file)
    assert "0 9 * * *  Europe/Lutetia: " in output
    assert "'Europe/Lutetia' is not a known time zone" in output


def test_a_task_that_was_edited_or_deleted_since_is_not_compared(file: Path) -> None:
    edited, deleted = saved(schedule="0 9 * * *"), saved(schedule="0 9 * * *")
    run("--save", file)
    rewrite(file, slots=[])
    edited.schedule = "0 10 * * *"
    edited.save()
    deleted.delete()
    assert run("--compare", file).startswith(
        "sisy_schedules: 0 tasks mean something else (2 were edited or deleted since); croniter 6.2.0 -> "
    )


def test_what_can_not_be_read_is_not_saved(file: Path) -> None:
    saved()
    put_in(saved(), schedule="99 * * * *")
    assert run("--save", file).endswith("; 1 tasks whose schedule can't be read were left out.\n")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "can't be read: No such file"),
        ("[]", "was not written by `manage.py sisy_schedules --save`"),
        ("{}", "was not written by"),
        ("no json", "was not written by"),
        ('{"format": 9}', "its format is 9, and this version of sisy reads 1"),
    ],
)
def test_a_file_that_is_none_of_its_own_is_refused(file: Path, content: str | None, text: str) -> None:
    if content is not None:
        file.write_text(content)
    with pytest.raises(CommandError) as raised:
        run("--compare", file)
    assert text in str(raised.value)
    assert raised.value.returncode == 2


def test_a_file_that_can_not_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="can't be written: No such file"):
        run("--save", tmp_path / "none" / "file.json")


def test_saving_and_comparing_at_once_is_refused(file: Path) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        run("--save", file, "--compare", file)


def test_nothing_in_the_rows_is_changed(file: Path) -> None:
    task = saved(schedule="0 9 * * *")
    before = stored(task).modified_at, stored(task).schedule_version, stored(task).next_run
    run()
    run("--save", file)
    run("--compare", file)
    assert (stored(task).modified_at, stored(task).schedule_version, stored(task).next_run) == before


# Samples --------------------------------------------------------------------------------------------------------------


def test_a_sample_tells_a_change_of_clocks_that_comes_a_week_later() -> None:
    """In 2026 it is on 29 March in Paris; Chihuahua has had none since 2022, and New York's is on 8 March."""
    nine = "0 9 * * *"
    zones = ("Europe/Paris", "Africa/Algiers", "America/New_York", "America/Chicago")
    samples = [tuple(meaning.sample(Schedule(nine, timezone=zone), after=NOW)) for zone in zones]
    assert len(set(samples)) == len(zones)


def test_a_sample_of_a_rare_schedule_is_as_small_as_it_is() -> None:
    slots = meaning.sample(Schedule("0 0 29 2 *"), after=NOW)
    assert slots[:2] == [datetime(2028, 2, 29, tzinfo=UTC), datetime(2032, 2, 29, tzinfo=UTC)]
    assert len(slots) == 12
    assert meaning.sample(Schedule("@once", anchor=NOW), after=NOW) == []


def test_the_version_of_the_time_zones_is_that_of_the_database_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tzdata.zi").write_text("# version 2031c\n")
    monkeypatch.setattr(sisy_schedules.zoneinfo, "TZPATH", (str(tmp_path),))
    assert sisy_schedules.versions()["time zones"] == "2031c"
    (tmp_path / "tzdata.zi").rename(tmp_path / "UTC")
    assert sisy_schedules.versions()["time zones"] == f"unknown, in {tmp_path}"
    monkeypatch.setattr(sisy_schedules.zoneinfo, "TZPATH", ())
    assert sisy_schedules.versions()["time zones"].startswith("20")
