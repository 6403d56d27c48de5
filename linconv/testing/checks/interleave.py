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
from types import FrameType
from typing import Any

# A thread that does not get the turn back in this time goes on: the other one is blocked.
_PATIENCE = 0.25
_MOST_WAITS = 20
# Lines that share no state, or are the harness' own: turns are for those of the operator.
_KNOWN = {*sys.stdlib_module_names, "numpy", "scipy"}


def interleaved(
    rounds: Sequence[Sequence[Callable[[], Any]]],
    paces: Sequence[int],
    *,
    steps: int,
    trusted: Sequence[str] = (),
) -> list[list[Any]]:
    """Run the jobs of each round in threads of their own; return results or exceptions.

    Thread i hands over at every `paces[i]`-th line it comes to, at most `steps` times a
    round; where all go at pace 1, at their first bytecodes too.  Lines of the packages
    `trusted` do not count.  A job that nobody ever handed over to meets nothing but a
    thread that is through: it runs afterwards, in that one.
    """
    known = _KNOWN.union(trusted)
    found = [_Turns(jobs, paces, steps, known) for jobs in rounds if jobs]
    end = _held(1)[0]

    def first_jobs() -> None:  # in one thread, since to start one takes longer than most jobs
        try:
            for turns in found:
                turns.run(0)
                turns.join()
                turns.run_rest()
        finally:
            end.release()

    threading.Thread(target=first_jobs, daemon=True).start()
    while not end.acquire(timeout=_PATIENCE):
        for turns in found:  # a long job in compiled code: let the others overlap with it
            turns.start_all()
    return [turns.outcomes for turns in found]


class _Turns:
    """One round: its jobs, and whose turn it is; a thread asks by its number."""

    def __init__(
        self,
        jobs: Sequence[Callable[[], Any]],
        paces: Sequence[int],
        steps: int,
        known: set[str],
    ) -> None:
        self.jobs, self.paces, self.steps, self.known = jobs, paces, steps, known
        # Plain locks, held while a thread must wait: a semaphore takes five times as long.
        self.gates, self.ends = _held(len(jobs)), _held(len(jobs))
        self.running = [True for _ in jobs]
        self.started = [False for _ in jobs]
        self.outcomes: list[Any] = [None for _ in jobs]
        self.blocked = False  # the operator serialises its calls itself: let it run
        self.closed = False
        self._starting = threading.Lock()

    def run(self, me: int) -> None:
        """Run job `me` in this thread, handing over on the way."""
        self.started[me] = True
        sys.settrace(_tracer(self, me))
        try:
            self.outcomes[me] = self.jobs[me]()
        except Exception as error:
            self.outcomes[me] = error
        finally:
            sys.settrace(None)
            self._leave(me)

    def hand_over(self, me: int) -> None:
        """Let the next running thread go on, or begin, and wait for the turn."""
        after = [(me + step) % len(self.jobs) for step in range(1, len(self.jobs))]
        others = [i for i in after if self.running[i]]
        if not others or self.blocked:
            return
        if not self._start(others[0]):
            self._open(others[0])
        self.blocked = self.blocked or not self._regained(me)

    def start_all(self) -> None:
        """Start what waits for the first job, if that is under way and not through."""
        for i in range(1, len(self.jobs)):
            if self.started[0] and self.running[0]:
                self._start(i)

    def join(self) -> None:
        """Wait for the end of every job that was begun."""
        waited = {0}
        while True:
            with self._starting:
                begun = [i for i, started in enumerate(self.started) if started]
                self.closed = waited.issuperset(begun)
            if self.closed:
                return
            for i in begun:
                if i not in waited:
                    self.ends[i].acquire()
                    waited.add(i)

    def run_rest(self) -> None:
        """Run what was never begun in this thread; after `join` nobody else does."""
        rest = [i for i, started in enumerate(self.started) if not started]
        self.running = [False for _ in self.jobs]  # nobody is left to hand over to
        for i in rest:
            self.run(i)

    def _start(self, i: int) -> bool:
        """Start the thread of job i; False if it was, or the round is over."""
        with self._starting:
            if self.started[i] or self.closed:
                return False
            self.started[i] = True
        threading.Thread(target=self.run, args=(i,), daemon=True).start()
        return True

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

    def _leave(self, me: int) -> None:
        """Take no more turns."""
        self.running[me] = False
        for i in range(len(self.gates)):
            self._open(i)
        self.ends[me].release()

    def _open(self, i: int) -> None:
        """Give thread i the turn; it may have it already, when one was thought blocked."""
        with contextlib.suppress(RuntimeError):
            self.gates[i].release()


def _held(count: int) -> list[threading.Lock]:
    """Return locks, held until somebody else opens them."""
    locks = [threading.Lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    return locks


def _tracer(turns: _Turns, me: int) -> Callable[..., Any]:
    """Return a trace function that hands over at lines and at the first bytecodes."""
    pace, known = turns.paces[me], turns.known
    left = {
        "line": turns.steps * pace,
        "opcode": turns.steps // 2 if set(turns.paces) == {1} else 0,
    }
    skipped: dict[str, bool] = {}  # by module: most calls are of few

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        skip = skipped.get(name)
        if skip is None:
            skip = name.partition(".")[0] in known or name.startswith("linconv.testing")
            skipped[name] = skip
        if skip:
            return None
        if event == "call":
            frame.f_trace_opcodes = left["opcode"] > 0
        elif left.get(event, 0) > 0:
            left[event] -= 1
            if left[event] % pace == 0:
                turns.hand_over(me)
        return trace

    return trace
