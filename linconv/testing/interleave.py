"""Run functions in several threads that take turns, so that a race is met at once.

Left alone, two short calls hardly ever overlap: the interpreter switches threads every
few milliseconds.  Here each thread hands the turn to the next at every line of Python
it runs, and at its first bytecodes, so that two calls go through shared state together.
"""

from __future__ import annotations

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


class _Turns:
    """Whose turn it is; a thread asks by its number."""

    def __init__(self, count: int) -> None:
        self.gates = [threading.Semaphore(0) for _ in range(count)]
        self.running = [True] * count
        self.blocked = False  # the operator serialises its calls itself: let it run

    def hand_over(self, me: int) -> None:
        """Let the next running thread go on and wait for the turn."""
        after = [(me + step) % len(self.gates) for step in range(1, len(self.gates))]
        others = [i for i in after if self.running[i]]
        if not others or self.blocked:
            return
        self.gates[others[0]].release()
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
        for gate in self.gates:
            gate.release()


def interleaved(
    jobs: Sequence[Callable[[], Any]], paces: Sequence[int], *, steps: int
) -> list[Any]:
    """Run each job in a thread of its own; return results or exceptions.

    Thread i hands over at every `paces[i]`-th line it comes to, at most `steps` times;
    where all go at pace 1, at their first bytecodes too.
    """
    turns = _Turns(len(jobs))
    outcomes: list[Any] = [None for _ in jobs]
    opcodes = steps // 2 if set(paces) == {1} else 0

    def work(me: int) -> None:
        if me:
            turns.gates[me].acquire(timeout=_PATIENCE)  # the first begins alone
        sys.settrace(_tracer(turns, me, paces[me], steps, opcodes))
        try:
            outcomes[me] = jobs[me]()
        except Exception as error:
            outcomes[me] = error
        finally:
            sys.settrace(None)
            turns.leave(me)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _tracer(turns: _Turns, me: int, pace: int, steps: int, opcodes: int) -> Callable[..., Any]:
    """Return a trace function that hands over at lines and at the first bytecodes."""
    left = {"line": steps * pace, "opcode": opcodes}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in _KNOWN or name.startswith("linconv.testing"):
            return None
        if event == "call":
            frame.f_trace_opcodes = left["opcode"] > 0
        elif left.get(event, 0) > 0:
            left[event] -= 1
            if left[event] % pace == 0:
                turns.hand_over(me)
        return trace

    return trace
