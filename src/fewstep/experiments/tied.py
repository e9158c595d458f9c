"""``python tied.py PARENT COMMAND...`` becomes the command, which is interrupted when its parent ends.

So a run does not outlive the worker of its engine, whatever ends that. Nothing but the standard library: it
is started without site packages.
"""

import ctypes
import os
import signal
import sys


def main() -> None:
    """Tie this process to its parent and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, which outlives exec
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # engines have their workers ignore or block it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if os.getppid() == int(sys.argv[1]):  # else it has ended before it was watched
        os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
