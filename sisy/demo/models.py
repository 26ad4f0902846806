"""The demo's rows. Three of their methods are tasks: one deletes what is old, one watches, one does visitors' jobs."""

import re
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from django.db import models
from django.urls import reverse
from django.utils import timezone

import sisy
from sisy.models import Run

Table = list[list[str | float]]

_MOST_WORDS: Final = 20  # that a report lists
_PAGES: Final = 16  # of an export
_SECONDS_A_PAGE: Final = 0.5


class Measure(models.TextChoices):
    """What is measured; the values are columns of Sample."""

    LOAD = "load", "load"
    MEMORY = "memory_percent", "memory"
    DISK = "disk_percent", "disk"

    def show(self, value: float) -> str:
        """Write a value for people.

        >>> Measure.DISK.show(51.27), Measure.LOAD.show(0.5)
        ('51 %', '0.50')
        """
        return f"{value:.2f}" if self is Measure.LOAD else f"{value:.0f} %"


class Sample(models.Model):
    """How busy the machine was at one moment."""

    taken_at = models.DateTimeField(default=timezone.now, db_index=True)
    load = models.FloatField(null=True)
    memory_percent = models.FloatField("memory in use, %", null=True)
    disk_percent = models.FloatField("disk in use, %", null=True)

    class Meta:
        get_latest_by = "taken_at"
        ordering = ["-taken_at", "-pk"]

    def __str__(self) -> str:
        measured = ((measure, self.value(measure)) for measure in Measure)
        return ", ".join(f"{measure.label} {measure.show(value)}" for measure, value in measured if value is not None)

    def value(self, measure: str) -> float | None:
        """Return one of the measured values, or None where the machine does not tell."""
        value: float | None = getattr(self, measure)
        return value

    @sisy.task(label="Delete old samples")
    @classmethod
    def delete_old(cls, message: dict[str, Any]) -> str:
        """Delete samples older than userdata["keep_hours"]; a task."""
        keep = timedelta(hours=message["task"].userdata.get("keep_hours", 24))
        deleted, _ = cls.objects.filter(taken_at__lt=timezone.now() - keep).delete()
        return f"{deleted} samples deleted"


class Watch(models.Model):
    """Somebody wants to know when a measure reaches a limit, and when it is below it again."""

    measure = models.CharField(max_length=20, choices=Measure.choices)
    limit = models.FloatField(
        help_text="An alert is written when the measure reaches this, and when it is below again."
    )
    is_reached = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name_plural = "watches"

    def __str__(self) -> str:
        measure = Measure(self.measure)
        return f"{measure.label} at {measure.show(self.limit)}"

    @sisy.task(label="Check a limit")
    def check_limit(self, message: dict[str, Any]) -> str:
        """Compare the newest sample with the limit of this row; a task, one for each row."""
        sample = Sample.objects.first()
        value = sample.value(self.measure) if sample else None
        if value is None:
            raise sisy.Skip(f"there is no sample with {Measure(self.measure).label} yet")
        is_reached = value >= self.limit
        what = Measure(self.measure)
        text = f"{what.label} {what.show(value)} {'has reached' if is_reached else 'is below'} {what.show(self.limit)}"
        # Only the run that sees the crossing first writes the alert, however many look at the same time.
        if Watch.objects.filter(pk=self.pk, is_reached=not is_reached).update(is_reached=is_reached):
            Alert.objects.create(watch=self, text=text)
        return text


class Alert(models.Model):
    """A measure crossed the limit of a watch."""

    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, related_name="alerts")
    raised_at = models.DateTimeField(default=timezone.now)
    text = models.CharField(max_length=200)

    class Meta:
        ordering = ["-raised_at", "-pk"]

    def __str__(self) -> str:
        return self.text


class Report(models.Model):
    """A job that a visitor started, and what came of it: a table."""

    class Kind(models.TextChoices):
        """What a visitor can ask for."""

        WORDS = "words", "Count the words of a text"
        SAMPLES = "samples", "Sum up the samples"
        EXPORT = "export", "Export the samples"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    text = models.TextField(blank=True)
    table = models.JSONField(default=list, blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    run = models.ForeignKey(Run, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")

    class Meta:
        ordering = ["-requested_at"]

    def __str__(self) -> str:
        return self.get_kind_display()

    def get_absolute_url(self) -> str:
        """Return the page that shows it."""
        return reverse("report", args=[self.pk])

    @sisy.task(label="Write a report")
    def write(self, message: dict[str, Any]) -> str:
        """Do what the visitor asked for and keep it in this row; a task."""
        if self.kind == Report.Kind.WORDS:
            words = Counter(re.findall(r"\w+", self.text.casefold()))
            self.table, summary = words_table(words), f"{words.total()} words, {len(words)} different ones"
        elif self.kind == Report.Kind.EXPORT:
            self.table = exported(message["task"].current_run)
            summary = f"{len(self.table) - 1} samples exported"
        else:
            samples = list(Sample.objects.all()[:1000])
            self.table, summary = samples_table(samples), f"{len(samples)} samples summed up"
        self.save(update_fields=["table"])
        return summary


def exported(run: Run) -> Table:
    """Return all samples with a heading, in no hurry: the visitor watches how far it is."""
    table: Table = [["taken at", *(measure.label for measure in Measure)]]
    samples = list(Sample.objects.all()[: _PAGES * 50])
    for page in range(_PAGES):
        run.set_progress(page / _PAGES, f"page {page + 1} of {_PAGES}")
        time.sleep(_SECONDS_A_PAGE)
        for sample in samples[page::_PAGES]:
            table.append([sample.taken_at.isoformat(), *(sample.value(measure) or 0 for measure in Measure)])
    run.log(f"{len(samples)} samples on {_PAGES} pages")
    return table


def words_table(words: Counter[str]) -> Table:
    """Return the most frequent words and how often each occurs, with a heading.

    >>> words_table(Counter("abba"))
    [['word', 'times'], ['a', 2], ['b', 2]]
    """
    table: Table = [["word", "times"]]
    table += [[word, times] for word, times in words.most_common(_MOST_WORDS)]
    return table


def samples_table(samples: Sequence[Sample]) -> Table:
    """Return the lowest, the mean and the highest value of each measure that was measured, with a heading."""
    table: Table = [["measure", "lowest", "mean", "highest"]]
    for measure in Measure:
        values = [value for sample in samples if (value := sample.value(measure)) is not None]
        if values:
            numbers = min(values), sum(values) / len(values), max(values)
            table.append([measure.label, *(round(number, 2) for number in numbers)])
    return table
