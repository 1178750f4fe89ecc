"""Child processes that end with their parent, what they said, and a fresh one for one call."""
from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from dkt_ros.errors import RunError

PR_SET_PDEATHSIG = 1
TAIL_LINES = 12
GRACE_S = 3.0


def end_with_parent() -> Callable[[], object] | None:
    """
    Return the `preexec_fn` of a child that the kernel shall kill with its parent; None off Linux.

    Without it the child of a process that was killed goes on writing into a folder that the next
    run clears.
    """
    if not sys.platform.startswith('linux'):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a fresh process, whose peak memory is then its own."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


class ChildError(RunError):
    """A child process failed; the message ends with the last lines of its log."""


class Children:
    """
    Named child processes, each with a log file; use it in a `with`, which ends them all.

    They end, too, when this process is killed.

    Parameters
    ----------
    logs : Path
        Folder of the log files.
    environ : mapping of str to str
        Environment of all of them.

    """

    def __init__(self, logs: Path, environ: Mapping[str, str]) -> None:
        self._logs, self._environ = logs, dict(environ)
        self._processes: dict[str, subprocess.Popen] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Children:
        self._old_handler = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        signal.signal(signal.SIGTERM, self._old_handler)

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start `python -m module arguments`, with its output in NAME.log."""
        with self.log_path(name).open('wb') as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, '-m', module, *arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=self._environ, start_new_session=True,
                preexec_fn=end_with_parent())

    def log_path(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f'{name}.log'

    def log(self, name: str) -> str:
        """Return what a process has said so far."""
        return self.log_path(name).read_text(errors='replace')

    def exit_code(self, name: str) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._processes[name].poll()

    def wait(self, name: str, timeout_s: float) -> int | None:
        """Wait for a process to end; return its exit code, None if it still runs."""
        try:
            return self._processes[name].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def failure(self, name: str, what: str) -> ChildError:
        """Return the error that says what went wrong, with the tail of the log."""
        lines = self.log(name).strip().splitlines()[-TAIL_LINES:]
        tail = '\n  '.join(lines) or '(it said nothing)'
        return ChildError(f'{name} {what}; its log {self.log_path(name)} ends with:\n  {tail}')

    def stop(self) -> None:
        """End all processes: ask first, then kill."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for process in self._processes.values():
                if process.poll() is None:
                    _signal_group(process, number)
            until = time.monotonic() + GRACE_S
            while time.monotonic() < until and any(
                    process.poll() is None for process in self._processes.values()):
                time.sleep(0.05)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        process.poll()


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
