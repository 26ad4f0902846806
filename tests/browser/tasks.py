"""Functions that the browser tests watch."""

import time
from pathlib import Path
from typing import Any

Message = dict[str, Any]


def climb(message: Message) -> str:
    """Say how far it is, until the file userdata["stop"] is there or it is cancelled."""
    task, run = message["task"], message["task"].current_run
    for step in range(600):
        run.set_progress(step / 600, f"step {step}")
        run.log(f"line {step}")
        if Path(task.userdata["stop"]).exists():
            break
        time.sleep(0.25)
    return "at the top"


def fall(message: Message) -> None:
    """Fail with a message that wants to be run."""
    raise ValueError(message["task"].userdata["text"])
