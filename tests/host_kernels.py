"""CUDA C++ run on the host, thread by thread: CuPy's kernels as far as linconv asks for them.

The source is compiled as C++ behind a few definitions.  That shows whether a kernel
computes the right numbers and stays within its arrays, not whether it is fast or a race:
kernels that synchronise their threads cannot run like this.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)

_HEAD = r"""
#define __global__
#define __device__
struct dim { unsigned x, y, z; };
static thread_local dim blockIdx, threadIdx, blockDim, gridDim;
"""
_TAIL = r"""
// Pointers and 64-bit integers are passed alike; arguments that are too many do no harm.
typedef long long word;
typedef void (*kernel)(word, word, word, word, word, word, word, word,
                       word, word, word, word, word, word, word, word);
extern "C" void run(kernel f, const word* w, unsigned grid, unsigned block)
{
    gridDim = {grid, 1, 1};
    blockDim = {block, 1, 1};
    for (unsigned b = 0; b < grid; b++)
        for (unsigned t = 0; t < block; t++) {
            blockIdx = {b, 0, 0};
            threadIdx = {t, 0, 0};
            f(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7],
              w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]);
        }
}
"""
_WORDS = 16


@functools.cache
def _library(code: str) -> ctypes.CDLL:
    assert COMPILER, "no C++ compiler"
    name = hashlib.sha256(code.encode()).hexdigest()[:16]
    folder = Path(tempfile.mkdtemp(prefix="linconv-kernels-"))
    source, target = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text(code)
    command = [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([*command, "-o", target, source], check=True)
    library = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return library


class RawModule:
    """Kernels of a source, compiled when the first one is asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert options == ("-std=c++17",)
        self._code = code

    def get_function(self, name: str) -> Any:
        library = _library(_HEAD + self._code + _TAIL)
        return functools.partial(_run, library, getattr(library, name))


def _run(library: Any, kernel: Any, grid: tuple, block: tuple, arguments: tuple) -> None:
    words = np.zeros(_WORDS, np.int64)
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.int64):
            words[i] = argument
        else:
            assert argument.flags.c_contiguous
            words[i] = argument.data.ptr
    (blocks,), (threads,) = grid, block
    assert 0 < threads <= 1024
    assert 0 < blocks < 1 << 31
    pointer = ctypes.cast(kernel, ctypes.c_void_p)
    library.run(pointer, words.ctypes.data_as(ctypes.c_void_p), blocks, threads)


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
    """A body for every entry of some arrays, of which the last is written into."""

    def __init__(self, inputs: str, outputs: str, body: str, name: str) -> None:
        assert name.isidentifier()
        self.parameters = [word.split() for word in (*inputs.split(","), *outputs.split(","))]
        self._inputs, self._body = inputs.count(",") + 1, body

    def run(self, *arrays: np.ndarray) -> None:
        """Run the body; letters stand for types, one each, and shapes are broadcast."""
        assert len(arrays) == len(self.parameters)
        *inputs, target = arrays
        types = _FIXED.copy()
        for (letter, _), array in zip(self.parameters, arrays, strict=True):
            if types.setdefault(letter, array.dtype.char) != array.dtype.char:
                raise TypeError(f"Type is mismatched. {letter} {types} {array.dtype}")
        if np.broadcast_shapes(*(a.shape for a in inputs)) != target.shape:
            raise ValueError("Out shape is mismatched")
        plain = [np.ascontiguousarray(np.broadcast_to(a, target.shape)) for a in arrays]
        if target.size:
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in plain]
            _library(self._source(types)).run(*pointers, ctypes.c_long(target.size))
        target[...] = plain[-1]

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
