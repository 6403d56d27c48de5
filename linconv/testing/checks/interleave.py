"""Run functions in several threads that take turns, so that a race shows at once.

Two short calls in plain threads hardly ever overlap: the interpreter switches threads
every 5 ms.  Here each thread passes the turn to the next one after a given number of
lines of Python, so that the calls go through shared state together.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

# Seconds that a thread waits for its turn before it goes on without.
_PATIENCE = 0.25
_MOST_WAITS = 20
# Packages whose lines do not touch the state of an operator.
_KNOWN = {*sys.stdlib_module_names, "numpy", "scipy"}


def interleaved(
    jobs: Sequence[Callable[[], Any]],
    paces: Sequence[int],
    *,
    steps: int,
    trusted: Sequence[str] = (),
) -> list[Any]:
    """Run each job in a thread of its own; return their results or exceptions.

    Thread i hands over at every `paces[i]`-th line that it runs, at most `steps` times.
    Lines of the packages in `trusted` do not count.
    """
    turns = _Turns(jobs, paces, steps, _KNOWN.union(trusted))
    threads = [
        threading.Thread(target=turns.run, args=(i,), daemon=True) for i in range(len(jobs))
    ]
    collects = gc.isenabled()
    gc.disable()  # a collection calls other libraries' functions, whose lines would count
    try:
        for thread in threads:
            thread.start()
        turns.open(0)
        for thread in threads:
            thread.join()
    finally:
        if collects:
            gc.enable()
    return turns.outcomes


class _Turns:
    """The jobs, and for each a gate (a lock) where its thread waits for the turn."""

    def __init__(
        self,
        jobs: Sequence[Callable[[], Any]],
        paces: Sequence[int],
        steps: int,
        known: set[str],
    ) -> None:
        self.jobs, self.paces, self.steps, self.known = jobs, paces, steps, known
        # A gate is closed while its lock is held; semaphores take five times as long as locks.
        self.gates = [threading.Lock() for _ in jobs]
        for gate in self.gates:
            gate.acquire()
        self.running = [True for _ in jobs]
        self.outcomes: list[Any] = [None for _ in jobs]
        self.blocked = False  # True if a lock of the operator itself serialises its calls

    def run(self, me: int) -> None:
        """Run job `me` in this thread, handing over on the way."""
        # If another job runs long compiled code, it does not hand over: start beside it.
        self.gates[me].acquire(timeout=_PATIENCE)
        sys.settrace(_tracer(self, me))
        try:
            self.outcomes[me] = self.jobs[me]()
        except Exception as error:
            self.outcomes[me] = error
        finally:
            sys.settrace(None)
            self.running[me] = False
            for i in range(len(self.gates)):
                self.open(i)

    def hand_over(self, me: int) -> None:
        """Let the next running thread go on and wait for the turn to come back."""
        after = [(me + step) % len(self.jobs) for step in range(1, len(self.jobs))]
        others = [i for i in after if self.running[i]]
        if others and not self.blocked:
            self.open(others[0])
            self.blocked = not self._regained(me)

    def _regained(self, me: int) -> bool:
        """Wait for the turn; return False if it does not come while all threads are idle."""
        for _ in range(_MOST_WAITS):
            before = time.process_time()
            if self.gates[me].acquire(timeout=_PATIENCE):
                return True
            # A thread that computes uses processor time; one that waits for a lock does not.
            if time.process_time() - before < _PATIENCE / 20:
                return False
        return False

    def open(self, i: int) -> None:
        """Open the gate of thread i, unless it is open already."""
        if i < len(self.gates):
            with contextlib.suppress(RuntimeError):
                self.gates[i].release()


def _tracer(turns: _Turns, me: int) -> Callable[..., Any]:
    """Return a trace function for thread `me` that hands over at lines."""
    pace, known = turns.paces[me], turns.known
    left = turns.steps * pace
    skipped: dict[str, bool] = {}  # by module, as most frames are of the same modules

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        name = frame.f_globals.get("__name__", "")
        skip = skipped.get(name)
        if skip is None:
            skip = name.partition(".")[0] in known or name.startswith("linconv.testing")
            skipped[name] = skip
        if skip:
            return None
        if event == "line" and left > 0:
            left -= 1
            if left % pace == 0:
                turns.hand_over(me)
        return trace

    return trace
