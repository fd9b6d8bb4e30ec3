"""Runs a command and watches the memory of it and of all that it starts."""

import os
import subprocess
import threading
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL = 0.05


def parents() -> dict[int, int]:
    """Process to parent, of all processes there are."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name of a process stands in brackets and may hold blanks.
                found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    return found


def resident(root: int) -> int:
    """Bytes of resident memory of a process and its descendants; shared pages count once for each."""
    known = parents()
    total = 0
    for process in known:
        above = process
        while above in known and above != root:
            above = known[above]
        if above == root:
            try:
                total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
            except OSError:
                continue
    return total


def run(command: list[str], env: dict[str, str]) -> tuple[str, int]:
    """What the command printed, and the peak of its tree's resident bytes. Raises when it fails."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(INTERVAL):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, errors = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {process.returncode}:\n{output}\n{errors[-4000:]}"
        )
    return output, peak
