"""Arrays of NumPy and CuPy, dtypes of matrices, memory and threads.

May import geometry, the standard library, NumPy and SciPy.  No function moves an array
between host and GPU, except `host` and `fetch`, which copy a few numbers to the host.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, issparse

from linconv.geometry import index_bytes

_MOST_THREADS = 8
# Bytes of a block of vectors.  An iteration of a solver works on five to ten such blocks,
# which together fit a processor's caches.
_BLOCK = 1 << 17

CsrArray: TypeAlias = Any  # scipy.sparse.csr_array, which SciPy does not annotate


def as_array(value: Any, name: str) -> np.ndarray:
    """Return an array-like as a numeric ndarray; raise where its meaning would change."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: fill it first")
    if isinstance(value, np.matrix):
        raise TypeError(f"{name} is a numpy.matrix: pass numpy.asarray({name})")
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} must be a dense array, got a sparse {type(value).__name__}")
    try:
        array = np.asarray(on_host(value, name))
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes, which JAX uses
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array


def on_host(value: Any, name: str) -> Any:
    """Return an array of another library as NumPy can read it, if it is in host memory.

    No library is imported.  Tensors of PyTorch are detached, and bfloat16 becomes float32.
    """
    owner = type(value).__module__.partition(".")[0]
    foreign: Any = value
    if owner == "torch" or hasattr(value, "detach"):
        device, layout = str(value.device), str(value.layout)
        if device != "cpu" or layout != "torch.strided":
            place = f"on {device}" if device != "cpu" else f"in the layout {layout}"
            raise TypeError(
                f"{name} must be a dense array on the host, got a tensor {place}: pass "
                f"{name}.{'cpu()' if device != 'cpu' else 'to_dense()'}"
            )
        value = value.detach().resolve_conj().resolve_neg()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if owner in ("jax", "jaxlib") and hasattr(value, "devices"):
        places = {place.platform for place in foreign.devices()}
        if places != {"cpu"}:
            raise TypeError(
                f"{name} must be on the host, got a JAX array on {', '.join(sorted(places))}: "
                f"pass jax.device_get({name})"
            )
    if owner == "cupy":
        raise TypeError(
            f"{name} must be a NumPy array, got a cupy {type(value).__name__}: move it to the "
            "host first, cupy.asnumpy, or an operator to the GPU: A.to('gpu')"
        )
    return value


def by_real_parts(product: Callable[[Any], Any], X: Any) -> Any:
    """Return a real operator's product with complex columns; (n, b) -> (m, b).

    The operator multiplies real and imaginary parts as 2 b real columns, which is half the
    work of a complex product.
    """
    xp, b = namespace(X), X.shape[1]
    parts = xp.concatenate((X.T.real, X.T.imag))  # (2 b, n)
    both = product(parts.T).T
    result = xp.empty((b, both.shape[1]), np.result_type(both.dtype, np.complex64))
    result.real, result.imag = both[:b], both[b:]
    return result.T


def on_device(value: Any) -> bool:
    """Whether `value` is a CuPy array; CuPy is imported if and only if there can be one."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def namespace(value: Any) -> Any:
    """Return the module of the library that an array belongs to: CuPy, or NumPy."""
    return sys.modules["cupy"] if on_device(value) else np


def as_device_array(value: Any, name: str) -> Any:
    """Return a CuPy array; raise for other arrays, which linconv never moves implicitly."""
    if not on_device(value):
        raise TypeError(
            f"{name} must be a CuPy array, as the operator lies on the GPU, got "
            f"{type(value).__name__}: move it with cupy.asarray({name}), or the operator "
            "with A.to('cpu')"
        )
    return value


def host(a: Any) -> np.ndarray:
    """Return a small array on the host."""
    return a.get() if hasattr(a, "get") else np.asarray(a)


def fetch(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Return small real arrays on the host, with one copy for all of them."""
    if not on_device(arrays[0]):
        return list(arrays)
    flat = [a.reshape(-1).astype(np.float64, copy=False) for a in arrays]
    numbers = namespace(arrays[0]).concatenate(flat).get()
    cuts = itertools.pairwise(itertools.accumulate((a.size for a in arrays), initial=0))
    return [
        numbers[slice(*cut)].reshape(a.shape).astype(a.dtype)
        for a, cut in zip(arrays, cuts, strict=True)
    ]


def is_operator(x: Any) -> bool:
    matrix = issparse(x) or type(x).__module__.startswith("cupyx.scipy.sparse")
    return matrix or (hasattr(x, "matvec") and hasattr(x, "shape"))


def is_scalar(x: Any) -> bool:
    """Whether `x` is a number; raise for CuPy's 0-d arrays, which lie on the GPU."""
    if on_device(x) and x.ndim == 0:
        raise TypeError(
            "an operator is multiplied by a number, got a CuPy array of shape (): write "
            "a.item(), which copies it to the host"
        )
    number = (int, float, complex, np.number, np.bool_)
    array = isinstance(x, np.ndarray) and x.ndim == 0
    return isinstance(x, number) or (array and x.dtype.kind in "biufc")


def is_everything(key: Any) -> bool:
    return key is ... or (isinstance(key, slice) and key == slice(None))


def is_mask(key: Any) -> bool:
    return getattr(key, "dtype", None) == np.bool_


def matrix_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of a matrix whose kernel has `dtype`.

    Booleans and integers become int64, so that small ones never wrap; float16
    becomes float32, which SciPy's sparse arrays can hold; others stay.
    """
    if dtype.kind in "biu":
        return np.dtype(np.int64)
    if dtype == np.float16:
        return np.dtype(np.float32)
    return native(dtype)


def native(dtype: Any) -> np.dtype:
    """Return a dtype-like as a dtype in this machine's byte order."""
    return np.dtype(dtype).newbyteorder("=")


def storable(dtype: Any) -> np.dtype:
    """Return a native dtype that a sparse matrix can hold; raise for others."""
    wanted = native(dtype)
    if wanted.kind not in "iufc" or wanted == np.float16:
        raise TypeError(
            f"dtype must be one a sparse matrix can hold (integers, float32, float64, "
            f"longdouble, complex), got {wanted}"
        )
    return wanted


def as_values(value: Any, dtype: Any, name: str) -> np.ndarray:
    """Return `value` as an array of the dtype its matrix will have."""
    array = as_array(value, name)
    wanted = storable(matrix_dtype(array.dtype) if dtype is None else dtype)
    integers = array.dtype.kind in "biu" and wanted.kind in "iu"
    if not integers and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise TypeError(
            f"{name} of dtype {array.dtype} would lose its fractions or imaginary part as "
            f"dtype {wanted}"
        )
    result = array.astype(wanted)
    if integers and (result != array).any():
        raise ValueError(
            f"{name} has values from {array.min()} to {array.max()}, which do not fit "
            f"{wanted}: pass dtype=float"
        )
    return result


def index_dtype(shape: tuple[int, int], nnz: int) -> np.dtype:
    """Return int32 while nonzeros and both dimensions fit, else int64."""
    return np.dtype(f"i{index_bytes(shape, nnz)}")


def sparse_array(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
) -> CsrArray:
    """Wrap sorted, duplicate-free CSR arrays without copying them."""
    matrix = csr_array((data, indices, indptr), shape=shape, copy=False)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, None if unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, _container_memory())
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _container_memory() -> int:
    """Return the bytes left in the control group of this process, if it has a limit."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = int(file.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            return max(0, limit - int(file.read()))
    except (OSError, ValueError):
        return sys.maxsize


def blocks(count: int, nbytes: int) -> list[slice]:
    """Return slices that cut `count` vectors of `nbytes` each into blocks of a cache's size.

    A block holds thousands of small vectors, or one large vector.
    """
    size = max(1, _BLOCK // max(1, nbytes))
    return [slice(start, start + size) for start in range(0, count, size)]


def require_memory(nbytes: int, what: str, way_out: str) -> None:
    """Raise MemoryError where `nbytes` is more than half of the available memory."""
    if nbytes < 1 << 16:  # reading the free memory takes longer than allocating
        return
    available = available_memory()
    if available is not None and nbytes > available // 2:
        raise MemoryError(
            f"{what} needs {nbytes:,} bytes, more than half of the {available:,} bytes "
            f"available: {way_out}"
        )


def workers(work: int, grain: int) -> int:
    """Return the number of threads for `work`, at least `grain` each and at most 8."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _MOST_THREADS, work // grain))


def run_all(tasks: Iterable[Callable[[], Any]], threads: int) -> list[Any]:
    """Run tasks, concurrently where `threads` > 1; return their results in order.

    A task must not wait for another task.
    """
    tasks = list(tasks)
    if threads <= 1 or len(tasks) < 2:
        return [task() for task in tasks]
    results: list[Future[Any]] = [Future() for _ in tasks]
    queue = deque(zip(tasks, results, strict=True))

    def work() -> None:
        while queue:
            try:
                task, result = queue.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                result.set_result(task())
            except BaseException as error:
                result.set_exception(error)

    for _ in range(min(threads, len(tasks)) - 1):
        try:
            _pool().submit(work)
        except RuntimeError:  # there is no further thread, or the interpreter is ending
            break
    work()
    return [result.result() for result in results]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return the thread pool of all products: starting threads takes as long as a product."""
    return ThreadPoolExecutor(_MOST_THREADS, "linconv")


if hasattr(os, "register_at_fork"):  # a forked process has no threads of its parent
    os.register_at_fork(after_in_child=_pool.cache_clear)
