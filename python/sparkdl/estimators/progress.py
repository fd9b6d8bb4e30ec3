"""What trials say while they run, on the driver: a line for each that updates, or a line for each epoch."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import sys
import threading
from importlib import import_module
from typing import Any

_MOST_OF_A_LINE = 1 << 16


class Board:
    """One line a trial: rewritten in a terminal and in a notebook, printed anew elsewhere."""

    def __init__(self, names: list[str]) -> None:
        self._lock = threading.Lock()
        self._names = names
        self._lines = ["waiting"] * len(names)
        self._drawn = 0
        self._display = _notebook_display()

    def epoch(self, trial: int, epoch: int, epochs: int, numbers: dict[str, float]) -> None:
        """A trial has gone through its rows once more."""
        said = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._say(trial, f"epoch {epoch}/{epochs}  {said}", True)

    def state(self, trial: int, state: str) -> None:
        """A trial starts, is done or has failed; the numbers of its last epoch stay."""
        with self._lock:
            last = self._lines[trial]
        self._say(trial, f"{last}  {state}" if last.startswith("epoch") else state, state != "running")

    def _say(self, trial: int, line: str, worth_a_line: bool) -> None:
        with self._lock:
            self._lines[trial] = line
            lines = [f"{name}: {line}" for name, line in zip(self._names, self._lines, strict=True)]
            if self._display is not None:
                self._display.update({"text/plain": "\n".join(lines)}, raw=True)
            elif sys.stdout.isatty():
                up = f"\x1b[{self._drawn}F" if self._drawn else ""
                print(up + "\n".join(f"\x1b[2K{line}" for line in lines), flush=True)
                self._drawn = len(lines)
            elif worth_a_line:
                print(lines[trial], flush=True)


class Listener:
    """Takes what trials send, over TCP: lines of JSON after a token that only they know."""

    def __init__(self, board: Board, host: str) -> None:
        self._board = board
        self._token = secrets.token_hex(16)
        self._host = host
        self._server = socket.create_server(("127.0.0.1" if host == "127.0.0.1" else "", 0))
        threading.Thread(target=self._accept, name="sparkdl-progress", daemon=True).start()

    def place(self, trial: int) -> dict[str, Any]:
        """Where a trial sends to."""
        port = self._server.getsockname()[1]
        return {"host": self._host, "port": port, "token": self._token, "trial": trial}

    def close(self) -> None:
        """Takes no more."""
        # Closing alone does not wake the thread that waits.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                connection.settimeout(10)
                if not hmac.compare_digest(lines.readline(200).strip(), self._token.encode()):
                    return
                connection.settimeout(None)
                while line := lines.readline(_MOST_OF_A_LINE):
                    said = json.loads(line)
                    self._board.epoch(
                        int(said["trial"]), int(said["epoch"]), int(said["epochs"]), dict(said["numbers"])
                    )
            except (OSError, ValueError, KeyError, TypeError, IndexError):
                return  # Progress is nice to have; the trial goes on.


def _notebook_display() -> Any:
    """A place in the output of a notebook's cell that can be updated; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    return import_module("IPython.display").display({"text/plain": ""}, raw=True, display_id=True)
