"""The worker's tie to the process that started it."""
from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent: int) -> None:
    """
    Have Linux kill this process when the one that started it ends.

    Without it the worker of a run that was killed goes on writing into a folder that the next run
    clears. Elsewhere only the check between two frames stops it.

    Parameters
    ----------
    parent : int
        Process id of the one that started this one.

    Raises
    ------
    SystemExit
        If the parent has ended already.

    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    require_parent(parent)


def require_parent(parent: int) -> None:
    """Raise SystemExit if the parent has ended."""
    if os.getppid() != parent:
        raise SystemExit('the process that started this one is gone')
