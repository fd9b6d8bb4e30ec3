"""Processes that train, forked from one that has Keras loaded: that takes seconds, a fork does not.

Each request has a process of its own, fresh but for what is imported: TensorFlow starts no thread before
it is used. The "forkserver" of `multiprocessing` would import the caller's main program too.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Lock
from typing import IO, Any

import numpy as np

from sparkdl import _processes

_PR_SET_PDEATHSIG = 1
_STARTED = b"started\n"
_IDLE_SECONDS = 60.0
"""After which a server ends, as Spark's idle Python workers do."""
_TAIL = 4000

_lock = Lock()
_running: list[_Server] = []
"""At most one."""


def start() -> None:
    """Has Keras loaded meanwhile for what is asked next."""
    with _lock:
        _server()


def asked(request: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own reports of a request, or how it ended without a report.

    That process ends with this one.
    """
    with _lock, _processes.unnamed_file() as report, _processes.unnamed_file() as output:
        files = {"report": _processes.path(report), "output": _processes.path(output)}
        code, printed = _done(json.dumps({**request, **files}).encode() + b"\n", output)
        report.seek(0)
        try:
            said: dict[str, Any] = json.loads(report.read())
        except ValueError:
            return _without_report(code, printed)
        return said


def served() -> dict[str, Any]:
    """Makes this process a server, which ends here. Returns in each process that it forks for a request."""
    gc.freeze()  # Else collecting garbage would copy what forks share.
    server = os.getpid()
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=os.dup(0)) as connection, connection.makefile("rb") as lines:
        while select.select([connection], [], [], _IDLE_SECONDS)[0] and (line := lines.readline()):
            connection.sendall(_STARTED)
            process = os.fork()
            if not process:
                break
            while not (ended := os.waitpid(process, os.WNOHANG))[0]:
                found, _, _ = select.select([woken, connection], [], [])
                if connection in found:  # Nobody is there any more.
                    os._exit(1)
                woken.recv(4096)
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
        else:
            os._exit(0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    woken.close()
    wakes.close()
    return _forked(server, json.loads(line))


def _forked(server: int, request: dict[str, Any]) -> dict[str, Any]:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    with open(os.devnull, "rb") as nothing, open(request["output"], "wb") as output:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    np.random.seed()  # Python's own numbers differ after a fork, those of NumPy would not.
    return request


def _done(line: bytes, output: IO[bytes]) -> tuple[int, IO[bytes]]:
    """The exit code of the process that did it, and what that printed."""
    for _ in range(2):  # A server that was idle may end just when it is asked.
        server = _server()
        if (code := server.code(line)) is not None:
            return code, output
        _running.remove(server)
        ended = server.close()
    return ended, server.output


def _server() -> _Server:
    environment = _processes.environment()
    if _running and not _running[0].serves(environment):
        _running.pop().close()
    if not _running:
        _running.append(_Server(environment))
    return _running[0]


class _Server:
    def __init__(self, environment: dict[str, str]) -> None:
        self.output = _processes.unnamed_file()
        self._environment = environment
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        self._answers = self._socket.makefile("rb")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sparkdl.estimators.trial_process"],
                env=environment,
                stdin=theirs.fileno(),
                stdout=self.output,
                stderr=subprocess.STDOUT,
            )

    def serves(self, environment: dict[str, str]) -> bool:
        return (
            self._owner == os.getpid() and self._environment == environment and self._process.poll() is None
        )

    def code(self, line: bytes) -> int | None:
        """The exit code of the process that did what it was asked; None where it was not taken up."""
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(line)
                if self._answers.readline() == _STARTED:
                    said = self._answers.readline()
                    return int(said) if said else self.close()
        except BaseException:  # An interrupted notebook, say.
            self.close()
            raise
        return None

    def close(self) -> int:
        """Ends it and with it what it forked, and gives the code with which it ended."""
        self._answers.close()
        self._socket.close()
        if self._owner != os.getpid():  # A fork of the process that it serves has no business with it.
            return 0
        self._process.kill()
        return self._process.wait()


def _without_report(code: int, output: IO[bytes]) -> dict[str, Any]:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL))
    tail = output.read().decode(errors="replace").strip()
    if code < 0:
        why = f"The training process was ended by {signal.Signals(-code).name}"
        why += ": most often memory ran out." if code == -signal.SIGKILL else "."
    else:
        why = f"The training process ended with code {code} and no report."
    return {"error": why, "kind": "Internal", "value": False, "traceback": tail}
