"""Run functions in several threads that take turns, so that a race is met at once.

Left alone, two short calls hardly ever overlap: the interpreter switches threads every
few milliseconds.  Here each thread hands the turn to the next at every line of Python
it runs, and at its first bytecodes, so that two calls go through shared state together.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

# A thread that does not get the turn back in this time goes on: the other one is blocked.
_PATIENCE = 0.25
_MOST_WAITS = 20
# Lines that share no state, or are the harness' own: turns are for those of the operator.
_KNOWN = {*sys.stdlib_module_names, "numpy", "scipy"}


class _Turns:
    """Whose turn it is; a thread asks by its number."""

    def __init__(self, count: int) -> None:
        # Plain locks, held while a thread must wait: a semaphore takes five times as long.
        self.gates = _held(count)
        self.running = [True] * count
        self.blocked = False  # the operator serialises its calls itself: let it run

    def hand_over(self, me: int) -> None:
        """Let the next running thread go on and wait for the turn."""
        after = [(me + step) % len(self.gates) for step in range(1, len(self.gates))]
        others = [i for i in after if self.running[i]]
        if not others or self.blocked:
            return
        self.open(others[0])
        self.blocked = self.blocked or not self._regained(me)

    def _regained(self, me: int) -> bool:
        """Wait for the turn; False if it does not come back although nobody works."""
        for _ in range(_MOST_WAITS):
            before = time.process_time()
            if self.gates[me].acquire(timeout=_PATIENCE):
                return True
            # The other thread may be collecting garbage; one that waits for a lock is idle.
            if time.process_time() - before < _PATIENCE / 20:
                return False
        return False

    def leave(self, me: int) -> None:
        """Take no more turns."""
        self.running[me] = False
        for i in range(len(self.gates)):
            self.open(i)

    def open(self, i: int) -> None:
        """Give thread i the turn; it may have it already, when one was thought blocked."""
        with contextlib.suppress(RuntimeError):
            self.gates[i].release()


class Crew:
    """Threads that run one job each, round after round; to be used in ``with``.

    They stay for all rounds of a test, since to start one takes longer than most jobs.
    """

    def __init__(self, count: int) -> None:
        self._work: list[Callable[[], None] | None] = [None] * count
        self._begin, self._end = _held(count), _held(count)
        for me in range(count):
            threading.Thread(target=self._serve, args=(me,), daemon=True).start()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._work = [None] * len(self._work)
        for gate in self._begin:
            gate.release()
        for gate in self._end:
            gate.acquire()

    def _serve(self, me: int) -> None:
        while True:
            self._begin[me].acquire()
            work = self._work[me]
            if work is not None:
                work()
            self._end[me].release()
            if work is None:
                return

    def interleaved(
        self,
        jobs: Sequence[Callable[[], Any]],
        paces: Sequence[int],
        *,
        steps: int,
        trusted: Sequence[str] = (),
    ) -> list[Any]:
        """Run each job in a thread of its own; return results or exceptions.

        Thread i hands over at every `paces[i]`-th line it comes to, at most `steps`
        times; where all go at pace 1, at their first bytecodes too.  Lines of the
        packages `trusted` do not count.
        """
        turns = _Turns(len(jobs))
        outcomes: list[Any] = [None for _ in jobs]
        opcodes = steps // 2 if set(paces) == {1} else 0
        known = _KNOWN.union(trusted)

        def work(me: int) -> None:
            if me:
                turns.gates[me].acquire(timeout=_PATIENCE)  # the first begins alone
            sys.settrace(_tracer(turns, me, paces[me], steps, opcodes, known))
            try:
                outcomes[me] = jobs[me]()
            except Exception as error:
                outcomes[me] = error
            finally:
                sys.settrace(None)
                turns.leave(me)

        self._work = [partial(work, me) for me in range(len(jobs))]
        for gate in self._begin:
            gate.release()
        for gate in self._end:
            gate.acquire()
        return outcomes


def _held(count: int) -> list[threading.Lock]:
    """Return locks, held until somebody else opens them."""
    locks = [threading.Lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    return locks


def _tracer(
    turns: _Turns, me: int, pace: int, steps: int, opcodes: int, known: set[str]
) -> Callable[..., Any]:
    """Return a trace function that hands over at lines and at the first bytecodes."""
    left = {"line": steps * pace, "opcode": opcodes}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in known or name.startswith("linconv.testing"):
            return None
        if event == "call":
            frame.f_trace_opcodes = left["opcode"] > 0
        elif left.get(event, 0) > 0:
            left[event] -= 1
            if left[event] % pace == 0:
                turns.hand_over(me)
        return trace

    return trace
