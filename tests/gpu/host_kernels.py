"""CUDA C++ run on the host, thread by thread: CuPy's kernels as far as linconv asks for them.

The source is compiled as C++ behind a few definitions.  That shows whether a kernel
computes the right numbers, not whether it is fast.  A kernel that calls __syncthreads has its
block's threads run as fibers, each as far as the next barrier before another one moves, so
that a missing barrier is seen; shared memory holds NaN where a block has not written yet.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)

_HEAD = r"""
#include <cmath>
using std::sqrt;
#define __global__
#define __device__
#define __shared__ thread_local
#define __launch_bounds__(threads, blocks)
struct dim { unsigned x, y, z; };
[[maybe_unused]] static thread_local dim blockIdx, threadIdx, blockDim, gridDim;
[[maybe_unused]] static void barrier(int line);
#define __syncthreads() barrier(__LINE__)
"""
_TAIL = r"""
#include <ucontext.h>
#include <cstring>
#include <memory>
#include <vector>
// Pointers and 64-bit integers are passed alike; arguments that are too many do no harm.
typedef long long word;
typedef void (*kernel)(word, word, word, word, word, word, word, word,
                       word, word, word, word, word, word, word, word);
enum { SHARED = 48 << 10, STACK = 64 << 10, POISON = 0xff };  // all bits set: NaN
thread_local SHARED_TYPE shared_memory[SHARED / sizeof(SHARED_TYPE)];

static void call(kernel f, const word* w)
{
    f(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7],
      w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]);
}

struct block {
    kernel f;
    const word* words;
    std::vector<ucontext_t> threads;
    std::vector<int> at;  // lines of the barriers where threads wait; 0: done
    ucontext_t home;
};
static thread_local block* current;

static void barrier(int line)
{
    current->at[threadIdx.x] = line;
    swapcontext(&current->threads[threadIdx.x], &current->home);
}

static void fiber()
{
    call(current->f, current->words);
    current->at[threadIdx.x] = 0;
}

// Run the threads of a block from barrier to barrier; false where they do not all reach the
// same one, or where a thread writes behind the shared memory that it has.
static bool run_block(block& b, unsigned shared, char* stacks)
{
    unsigned count = (unsigned) b.threads.size();
    char* memory = (char*) shared_memory;
    memset(memory, POISON, SHARED);
    b.at.assign(count, 0);
    for (unsigned t = 0; t < count; t++) {
        getcontext(&b.threads[t]);
        b.threads[t].uc_stack.ss_sp = stacks + (size_t) STACK * t;
        b.threads[t].uc_stack.ss_size = STACK;
        b.threads[t].uc_link = &b.home;
        makecontext(&b.threads[t], fiber, 0);
    }
    do {
        for (unsigned t = 0; t < count; t++) {
            threadIdx = {t, 0, 0};
            swapcontext(&b.home, &b.threads[t]);
        }
        for (int at : b.at)
            if (at != b.at[0]) return false;
    } while (b.at[0]);
    for (unsigned i = shared; i < SHARED; i++)
        if (memory[i] != (char) POISON) return false;
    return true;
}

// `shared` < 0: the kernel has no barriers.
extern "C" int run(kernel f, const word* w, unsigned grid, unsigned size, int shared)
{
    block b = {f, w, std::vector<ucontext_t>(shared < 0 ? 0 : size), {}, {}};
    std::unique_ptr<char[]> stacks(new char[shared < 0 ? 0 : (size_t) STACK * size]);
    gridDim = {grid, 1, 1};
    blockDim = {size, 1, 1};
    current = &b;
    for (unsigned i = 0; i < grid; i++) {
        blockIdx = {i, 0, 0};
        if (shared >= 0 && !run_block(b, (unsigned) shared, stacks.get())) return false;
        for (unsigned t = 0; shared < 0 && t < size; t++) {
            threadIdx = {t, 0, 0};
            call(f, w);
        }
    }
    return true;
}
"""
_SHARED = 48 << 10
_WORDS = 16


@functools.cache
def _library(code: str) -> ctypes.CDLL:
    assert COMPILER, "no C++ compiler"
    name = hashlib.sha256(code.encode()).hexdigest()[:16]
    folder = Path(tempfile.mkdtemp(prefix="linconv-kernels-"))
    source, target = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text(code)
    command = [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
    command.append("-Wno-unknown-pragmas")  # nvcc's own
    subprocess.run([*command, "-o", target, source], check=True)
    library = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return library


class RawModule:
    """Kernels of a source, compiled when the first one is asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert options == ("-std=c++17",)
        self._code = code
        found = re.search(r"extern __shared__ (\w+) ", code)
        self._shared = f"#define SHARED_TYPE {found[1] if found else 'char'}\n"

    def get_function(self, name: str) -> Any:
        body = self._code.partition(f" {name}(")[2].partition('extern "C"')[0]
        sizes = re.findall(r"(\w+ )?__shared__ \w+ \w+\[(.*)\]", body)
        assert all(size == ("extern ", "") for size in sizes), "only dynamic shared memory"
        library = _library(_HEAD + self._code + self._shared + _TAIL)
        return functools.partial(_run, library, name, "__syncthreads" in body)


def _run(
    library: Any,
    name: str,
    fibers: bool,
    grid: tuple,
    block: tuple,
    arguments: tuple,
    *,
    shared_mem: int = 0,
) -> None:
    words = np.zeros(_WORDS, np.int64)
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.int64):
            words[i] = argument
        else:
            assert argument.flags.c_contiguous or argument.flags.f_contiguous
            words[i] = argument.data.ptr
            assert words[i] % argument.itemsize == 0, "misaligned address"
    (blocks,), (threads,) = grid, block
    assert 0 < threads <= 1024
    assert 0 < blocks < 1 << 31
    assert 0 <= shared_mem <= _SHARED, (
        f"{shared_mem} bytes of shared memory, at most {_SHARED}"
    )
    assert fibers or not shared_mem
    kernel = ctypes.cast(getattr(library, name), ctypes.c_void_p)
    pointer = words.ctypes.data_as(ctypes.c_void_p)
    right = library.run(kernel, pointer, blocks, threads, shared_mem if fibers else -1)
    assert right, f"{name}: threads wait at different barriers, or write behind shared memory"


_EACH = r"""
#include <complex>
#define complex std::complex
%s
extern "C" void run(%s, long size)
{
    for (long i = 0; i < size; i++) {
        %s
        %s;
    }
}
"""
_TYPES = {"f": "float", "d": "double", "F": "complex<float>", "D": "complex<double>"}
_FIXED = {"bool": "?"}  # types that are named rather than found


class ElementwiseKernel:
    """A body for every entry of some arrays, of which the last ones are written into."""

    def __init__(self, inputs: str, outputs: str, body: str, name: str) -> None:
        assert name.isidentifier()
        self.parameters = [word.split() for word in (*inputs.split(","), *outputs.split(","))]
        self._inputs, self._body = inputs.count(",") + 1, body

    def run(self, *arrays: np.ndarray) -> None:
        """Run the body; letters stand for types, one each, and shapes are broadcast."""
        assert len(arrays) == len(self.parameters)
        inputs, targets = arrays[: self._inputs], arrays[self._inputs :]
        types = _FIXED.copy()
        for (letter, _), array in zip(self.parameters, arrays, strict=True):
            if types.setdefault(letter, array.dtype.char) != array.dtype.char:
                raise TypeError(f"Type is mismatched. {letter} {types} {array.dtype}")
        shape = np.broadcast_shapes(*(a.shape for a in inputs))
        if any(target.shape != shape for target in targets):
            raise ValueError("Out shape is mismatched")
        plain = [np.ascontiguousarray(np.broadcast_to(a, shape)) for a in arrays]
        if size := math.prod(shape):
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in plain]
            _library(self._source(types)).run(*pointers, ctypes.c_long(size))
        for target, found in zip(targets, plain[self._inputs :], strict=True):
            target[...] = found

    def _source(self, types: dict[str, str]) -> str:
        names = "".join(
            f"typedef {_TYPES[c]} {letter};\n"
            for letter, c in types.items()
            if letter not in _FIXED
        )
        pointers = ", ".join(f"{letter}* _{name}" for letter, name in self.parameters)
        entries = [f"{letter} &{name} = _{name}[i];" for letter, name in self.parameters]
        entries[: self._inputs] = [f"const {entry}" for entry in entries[: self._inputs]]
        return _EACH % (names, pointers, " ".join(entries), self._body)
