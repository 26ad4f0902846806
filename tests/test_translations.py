"""The catalogues are complete, compiled and fit what the code says; the pages speak the languages."""

import re
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from django.utils import translation

from sisy.cron import Schedule
from sisy.models import task_with_callable
from tests.admin_pages import Page

PACKAGE = Path(__file__).parents[1] / "sisy"
LANGUAGES = ("de", "fr")


def catalogue(language, directory=PACKAGE):
    return polib.pofile(str(directory / "locale" / language / "LC_MESSAGES" / "django.po"))


def key(entry):
    return entry.msgctxt, entry.msgid, entry.msgid_plural


def texts(entry):
    return [entry.msgstr, *entry.msgstr_plural.values()] if entry.msgid_plural else [entry.msgstr]


def placeholders(text):
    return set(re.findall(r"%(?:\(\w+\))?[sd]", text.replace("%%", "")))


def test_every_catalogue_that_is_there_is_tested():
    assert sorted(path.name for path in (PACKAGE / "locale").iterdir()) == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_untranslated_unsure_or_left_over(language):
    entries = catalogue(language)
    assert [entry.msgid for entry in entries if entry.fuzzy or entry.obsolete] == []
    assert [entry.msgid for entry in entries if not entry.translated()] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_names_the_same_values(language):
    wrong = []
    for entry in catalogue(language):
        known = placeholders(entry.msgid) | placeholders(entry.msgid_plural or "")
        for text in texts(entry):
            if not placeholders(text) <= known or (not entry.msgid_plural and placeholders(text) != known):
                wrong.append((entry.msgid, text))
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language):
    compiled = polib.mofile(str(PACKAGE / "locale" / language / "LC_MESSAGES" / "django.mo"))
    found = {(entry.msgctxt, entry.msgid): texts(entry) for entry in compiled}
    assert found == {(entry.msgctxt, entry.msgid): texts(entry) for entry in catalogue(language)}


@pytest.mark.gettext
def test_the_catalogues_have_what_the_code_says_and_nothing_else(tmp_path):
    copy = tmp_path / "sisy"
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".html") and "demo" not in path.parts:
            target = copy / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (copy / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "--no-location", "-l", "de"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=120)
    said = {key(entry) for entry in catalogue("de", copy)}
    for language in LANGUAGES:
        known = {key(entry) for entry in catalogue(language)}
        assert known - said == set(), "left over: django-admin makemessages takes it out"
        assert said - known == set(), "missing: django-admin makemessages adds it, you translate it"


@pytest.mark.parametrize(
    ("text", "german", "french"),
    [
        ("*/15 9-17 * * mon-fri", "Alle 15 Minuten von 09:00 bis 17:45, Montag bis Freitag, UTC",
         "Toutes les 15 minutes de 09:00 à 17:45, du lundi au vendredi, UTC"),
        ("30 2 * mar,oct L0", "Um 02:30, am letzten Sonntag des Monats, im März und Oktober, UTC",
         "À 02:30, le dernier dimanche du mois, en mars et octobre, UTC"),
        ("0 0 1,15 * mon", "Um 00:00, am 1. und 15. oder am Montag, UTC", "À 00:00, le 1er et 15 ou le lundi, UTC"),
        ("@every 90s", "Alle 90 Sekunden", "Toutes les 90 secondes"),
        ("7,9,13,22,41,50,55 3,4 * * *", "Bei Minute 7", "minutes après l'heure"),
    ],
)  # fmt: skip
def test_a_schedule_is_described_in_the_active_language(text, german, french):
    for language, words in (("de", german), ("fr", french)):
        with translation.override(language):
            assert words in Schedule(text).describe()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ["Nächster Lauf", "Um 09:00, UTC", "Neunzig Tage", "Jetzt ausführen"]),
        ("fr", ["Prochaine exécution", "À 09:00, UTC", "Quatre-vingt-dix jours", "Exécuter"]),
    ],
)
def test_the_pages_speak_the_language_and_draw_the_same(admin_client, settings, language, words):
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = language, True
    task = task_with_callable("tests.project.shop.tasks.note", schedule="0 9 * * *")
    task.save()
    task.run_asap()
    for address in ("", "upcoming/", f"{task.pk}/change/"):
        page = Page(admin_client.get(f"/admin/sisy/task/{address}"))
        numbers = [tag[name] for _tag, tag in page.tags for name in ("d", "viewbox", "width", "x", "y") if name in tag]
        assert [text for text in numbers if "," in text or "\xa0" in text or "\u202f" in text] == []
    text = " ".join(page.text.split())
    assert [word for word in words if word not in text] == []
