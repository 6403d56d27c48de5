"""CSR arrays in the memory of a GPU, for kernels that are CuPy arrays.

No function copies anything back to the host; CuPy itself synchronizes once per matrix, to
read its indptr.
"""

from __future__ import annotations

import functools
import math
from importlib import import_module
from typing import Any

import numpy as np

from linconv import _arrays, assembly
from linconv.geometry import Axis, Geometry, csr_nbytes
from linconv.gpu import device, kernels, tables

# Threads of a block, and of a warp.
_THREADS, _WARP = 256, 32
# Entries that a block of threads writes, on average, and the largest number of their rows.
_ENTRIES, _MOST_ROWS = 4096, 1024
# Blocks of threads that a launch can have; CuPy truncates larger numbers to 32 bits.
_MOST_BLOCKS = (1 << 31) - 1


def conv_matrix(
    geometry: Geometry,
    kernel: Any,
    *,
    transposed: bool = False,
    rows: tuple[int, int] | None = None,
    like: Any = None,
) -> Any:
    """Return the matrix of a convolution, or of its transpose, as a cupyx csr_array.

    The arguments are those of `host.conv_matrix`, with taps in device memory.  Indices are
    written again rather than shared with `like`, which takes no longer.
    """
    layout = assembly.matrix_rows(geometry, transposed, rows)
    values = assembly.arranged(geometry, kernel, transposed)[layout.channels]
    numbers, positions = _tables_of(layout), math.prod(layout.grid.lengths)
    channels, per_group, *_ = values.shape
    pitch = per_group * numbers.entries
    target = _Target((channels * positions, layout.columns), channels * pitch, values.dtype)
    templates = Templates(numbers, values, layout.bases, layout.plane, target.index)
    target.write(templates, 0, pitch, positions, target.indptr)
    return target.matrix


def unfold_matrix(
    geometry: Geometry, dtype: np.dtype, rows: tuple[int, int] | None = None
) -> Any:
    """Return the matrix that gathers every tap; as `assembly.unfold_csr`, on the device."""
    device.library()
    device.check_dtype(np.dtype(dtype), "the matrix")
    found, nnz, shape = assembly.tap_rows(geometry, rows)
    ones = import_module("cupy").ones((geometry.c_in, 1) + (1,) * len(geometry.axes), dtype)
    target = _Target(shape, nnz, ones.dtype)
    positions = math.prod(axis.out for axis in geometry.axes)
    for tap in found:
        numbers, values = tables.tables(tap.grid), ones[: len(tap.bases)]
        templates = Templates(numbers, values, tap.bases, 0, target.index)
        rows_apart = (tap.slots.step or 1) * positions
        indptr = target.indptr[tap.slots.start * positions :]
        target.write(templates, tap.begin, tap.pitch, rows_apart, indptr)
    return target.matrix


def varying_matrix(geometry: Geometry, kernels: Any) -> Any:
    """Return the matrix of a kernel per position; as `assembly.varying_csr`, on the device."""
    layout, d = assembly.matrix_rows(geometry, False, None), len(geometry.axes)
    if geometry.flip:
        kernels = kernels[(slice(None),) * d + (slice(None, None, -1),) * d]
    numbers, cupy = _tables_of(layout), import_module("cupy")
    target = _Target(geometry.shape, numbers.entries, kernels.dtype)
    sizes = np.array([axis.k for axis in geometry.axes], np.int64)
    given = cupy.asarray(numbers.numbers), cupy.asarray(sizes), cupy.ascontiguousarray(kernels)
    arrays = (*given, target.indptr, target.indices, target.data)
    rows = geometry.shape[0]
    launch("write_varying", target.index, rows, _THREADS, arrays, (d, rows))
    return target.matrix


def templates_of(geometry: Geometry, kernel: Any, transposed: bool) -> Templates:
    """Return the different rows of a convolution's matrix, for products without it."""
    layout = assembly.matrix_rows(geometry, transposed, None)
    values = assembly.arranged(geometry, kernel, transposed)
    index = _arrays.index_dtype((layout.columns, layout.columns), 0)
    return Templates(_tables_of(layout), values, layout.bases, layout.plane, index)


class Templates:
    """The different rows of a matrix, in device memory, and the tables of their positions.

    `values` are the taps, (channels, per group, k1..kd), `bases` the first column of each
    channel, and `plane` is the distance of a group's channels in columns.
    """

    def __init__(
        self,
        numbers: tables.Tables,
        values: Any,
        bases: np.ndarray,
        plane: int,
        index: np.dtype,
    ) -> None:
        cupy, self.numbers, self.index = import_module("cupy"), numbers, index
        self.channels, self.per_group, *sizes = values.shape
        on_host = (numbers.numbers, bases, sizes)
        table, bases, lengths = (cupy.asarray(np.asarray(t, np.int64)) for t in on_host)
        columns = cupy.empty(self.per_group * numbers.templates, index)
        rows = cupy.empty(self.channels * columns.size, values.dtype)
        scalars = (len(sizes), self.per_group, plane, self.channels, numbers.templates)
        arrays = (table, lengths, cupy.ascontiguousarray(values), columns, rows)
        if rows.size:
            launch("write_templates", index, rows.size, _THREADS, arrays, scalars)
        self.arrays = table, bases, columns, rows

    @property
    def lines(self) -> int:
        """Lines of rows of a channel."""
        return math.prod(self.numbers.lengths[:-1])

    @property
    def scalars(self) -> tuple[int, int, int, int]:
        """Arguments of every kernel: axes, channels of a group, lines, template entries."""
        axes, templates = len(self.numbers.lengths), self.numbers.templates
        return axes, self.per_group, self.lines, templates


class _Target:
    """CSR arrays on the device that kernels write into."""

    def __init__(self, shape: tuple[int, int], nnz: int, dtype: np.dtype) -> None:
        cupy = import_module("cupy")
        self.shape, self.index = shape, _arrays.index_dtype(shape, nnz)
        check_size(shape, nnz, dtype)
        self.indptr = cupy.zeros(shape[0] + 1, self.index)
        self.indices, self.data = cupy.empty(nnz, self.index), cupy.empty(nnz, dtype)
        self.indptr[-1:] = nnz

    @property
    def matrix(self) -> Any:
        """Return the arrays as a matrix."""
        return device.sparse_array(self.data, self.indices, self.indptr, self.shape)

    def write(
        self, templates: Templates, begin: int, pitch: int, rows_apart: int, indptr: Any
    ) -> None:
        """Write rows of some channels, `pitch` entries and `rows_apart` rows apart.

        The first row is the first of `indptr` and its entries begin at `begin`.
        """
        length, width = templates.numbers.lengths[-1], templates.numbers.width
        rows, pieces, threads = _pieces(length, templates.per_group * width)
        scalars = (*templates.scalars, rows, begin, pitch, rows_apart)
        arrays = (*templates.arrays, indptr, self.indices, self.data)
        count = templates.channels * templates.lines * pieces * threads
        shared = (3 * rows + 1) * self.index.itemsize
        launch("write_rows", self.index, count, threads, arrays, scalars, shared)


def launch(
    name: str,
    index: np.dtype,
    count: int,
    threads: int,
    arrays: tuple,
    scalars: tuple,
    shared: int = 0,
) -> None:
    """Run a kernel for `count` threads in all, with `shared` bytes for each block."""
    if (blocks := -(-count // threads)) > _MOST_BLOCKS:
        raise ValueError(
            f"a kernel on the GPU has at most {_MOST_BLOCKS:,} blocks of threads, and "
            f"{blocks:,} are needed: multiply fewer columns at once"
        )
    kernel = _module(arrays[-1].dtype.char, index.char).get_function(name)
    arguments = (*arrays, *(np.int64(scalar) for scalar in scalars))
    kernel((blocks,), (threads,), arguments, shared_mem=shared)


@functools.cache
def _module(value: str, index: str) -> Any:
    """Return the compiled kernels for a dtype of values and one of indices."""
    return import_module("cupy").RawModule(code=source(value, index), options=("-std=c++17",))


def source(value: str, index: str) -> str:
    """Return the CUDA C++ for a dtype of values and one of indices, by their characters."""
    real = "float" if value in "fF" else "double"
    parts = 2 if np.dtype(value).kind == "c" else 1
    places = "int" if np.dtype(index).itemsize == 4 else "long long"
    words = {"REAL": real, "PARTS": parts, "INDEX": places, "EACH": kernels.EACH}
    head = "".join(f"#define {name} {word}\n" for name, word in words.items())
    return head + kernels.SOURCE


def _tables_of(layout: assembly.MatrixRows) -> tables.Tables:
    """Return the tables of some rows; the tables of all rows come from a cache."""
    return _remembered_tables(*layout.key) if layout.key else tables.tables(layout.grid)


@functools.lru_cache(maxsize=32)
def _remembered_tables(axes: tuple[Axis, ...], transposed: bool) -> tables.Tables:
    return tables.tables(assembly.grid_of(Geometry(axes), transposed)[0])


def _pieces(length: int, width: float) -> tuple[int, int, int]:
    """Return a block's rows, the blocks of a line of `length` rows, and their threads."""
    rows = max(1, min(_MOST_ROWS, length, int(_ENTRIES / max(width, 1))))
    pieces = -(-length // rows)
    rows = -(-length // pieces)
    warps = math.ceil(rows * max(width, 1) / _WARP)
    return rows, pieces, min(_THREADS, warps * _WARP)


def check_size(shape: tuple[int, int], nnz: int, dtype: np.dtype) -> None:
    """Raise MemoryError where the matrix does not fit in the device, or cuSPARSE."""
    if nnz >= 1 << 31:
        raise MemoryError(
            f"the matrix of shape {shape} would have {nnz:,} nonzeros, and cuSPARSE takes "
            "fewer than 2^31: build it in blocks with rows=(start, stop)"
        )
    what = f"the matrix of shape {shape} with {nnz:,} nonzeros of {dtype}"
    way_out = "build it in blocks with rows=(start, stop), or use float32"
    require_memory(csr_nbytes(shape, nnz, dtype.itemsize), what, way_out)


def require_memory(nbytes: int, what: str, way_out: str) -> None:
    """Raise MemoryError where `nbytes` do not fit in the device."""
    if nbytes > (free := _free()):
        raise MemoryError(
            f"{what} needs {nbytes:,} bytes, and the device has {free:,} left: {way_out}"
        )


def _free() -> int:
    """Return the bytes that can be allocated on the device."""
    cupy = import_module("cupy")
    free, _ = cupy.cuda.runtime.memGetInfo()
    return free + cupy.get_default_memory_pool().free_bytes()
