"""The page of the documentation that goes through the faults: it has them all, and its tests exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "faults.rst"

ROW = re.compile(r"^   \* - (\d+)\n((?:     .*\n)+)", re.MULTILINE)
NAME = re.compile(r"``([\w/]+\.py)::(\w+)``")


def rows() -> list[tuple[int, str]]:
    """Return the number and the text of each fault."""
    return [(int(number), text) for number, text in ROW.findall(PAGE.read_text("utf-8"))]


def named() -> Iterator[tuple[str, str]]:
    """Yield the file and the name of each test on the page."""
    for _, text in rows():
        yield from NAME.findall(text)


def test_every_fault_is_there_once_and_in_order() -> None:
    assert [number for number, _ in rows()] == list(range(1, 61))


def test_every_fault_has_a_test() -> None:
    assert [number for number, text in rows() if not NAME.search(text)] == []


@pytest.mark.parametrize("file", sorted({file for file, _ in named()}))
def test_the_tests_that_it_names_exist(file: str) -> None:
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", (TESTS / file).read_text("utf-8"), re.MULTILINE))
    assert {name for where, name in named() if where == file} - defined == set()


def test_every_test_of_a_fault_is_on_it() -> None:
    """What is proven shall be said; but for what proves the proofs, and the endurance run."""
    told = {name for _, name in named()}
    silent = {"test_catalogue.py", "test_soak.py", "test_invariants.py"}
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file.name not in silent]
    assert [
        f"{file.name}::{name}"
        for file in files
        for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
        if name not in told
    ] == []
