"""A private virtual environment for each contender, from requirements-NAME.txt, made by this command and kept.

It is made anew when its requirements or the interpreter change.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def names() -> list[str]:
    """Return the contenders, sisy first."""
    found = sorted(path.stem for path in (HERE / "contenders").glob("[a-z]*.py"))
    return sorted(found, key=lambda name: not name.startswith("sisy"))


def python_of(contender: str, *, directory: Path, in_place: bool) -> str:
    """Return the interpreter of a contender's environment, making it if need be.

    Args:
        contender: its name; those that share requirements share an environment.
        directory: where environments are kept.
        in_place: whether to use the interpreter that runs this command, which then must have everything.
    """
    if in_place:
        return sys.executable
    requirements = requirements_of(contender)
    environment = directory / requirements.stem.removeprefix("requirements-")
    python, stamp = environment / "bin" / "python", environment / "made-of"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"{contender}: making {environment}", flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True, cwd=ROOT)
        stamp.write_text(wanted)
    return str(python)


def requirements_of(contender: str) -> Path:
    """Return the requirements of a contender: its own, or those of what stands before the underscore in its name."""
    own = HERE / f"requirements-{contender}.txt"
    return own if own.exists() else HERE / f"requirements-{contender.partition('_')[0]}.txt"
