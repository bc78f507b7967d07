"""Ctrl-C, or the stop button of a notebook, without a step torn in half."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """``requested`` turns True at the first interrupt."""

    requested = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Inside, the first interrupt only sets a flag, to be looked at between steps; the second one breaks off,
    raising KeyboardInterrupt where it is.

    An interrupt in the middle of an optimiser step would leave some weights moved and others not.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Python delivers interrupts to the main thread alone
        return

    def note(signum: int, frame: object) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    former = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, former if former is not None else signal.SIG_DFL)
