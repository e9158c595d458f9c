"""One piece of work at a time beside the training: writing what was copied, so that training goes on."""

import threading
from collections.abc import Callable

from fewstep.errors import FewstepError


class Background:
    """Runs jobs in a thread, one after another; an error comes out where the next job is handed in."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin ``job`` once the job before it is done.

        Raises:
            FewstepError: what the job before it raised; ``job`` is not begun then.
        """
        self.finish()

        def run() -> None:
            try:
                job()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="fewstep-save")
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether the last job has ended with an error that ``finish`` would raise."""
        return self._error is not None

    def finish(self) -> None:
        """Wait for the job that is running; raise what it raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error if isinstance(error, FewstepError) else FewstepError(f"saving failed: {error}")
