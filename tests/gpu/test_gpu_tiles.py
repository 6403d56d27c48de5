"""Products by tiles in shared memory: the host's matrices are the truth.

Without a GPU the threads of a block run as fibers, see host_kernels.
"""

import devices
import host_kernels
import numpy as np
import pytest
import standin
from devices import DTYPES, GPU
from helpers import random_geometry, values
from test_gpu import compiled_for_a_device, whole

import linconv
from linconv.geometry import Boundary, Geometry
from linconv.gpu import kernels
from linconv.gpu.products import Direct

# Lines of some tiles and an odd rest, and of less than one, by the number of axes.
LENGTHS = {1: (5, 70, 1100, 2500), 2: (3, 20, 41, 97), 3: (2, 7, 12, 37)}


def unit_strides(seed):
    """Return (kernel, in_shape, options) of a convolution that has tiles."""
    rng = np.random.default_rng([8219, seed])
    while True:
        d = int(rng.integers(1, 4))
        n, k = rng.choice(LENGTHS[d], d).tolist(), rng.integers(1, 6, d).tolist()
        rules = [str(rule) for rule in Boundary]
        options = {
            "dilation": rng.integers(1, 4, d).tolist(),
            "padding": rng.integers(-1, 6, (d, 2)).tolist(),
            "boundary": [rng.choice(rules, 2).tolist() for _ in range(d)],
            "flip": bool(rng.random() < 0.5),
        }
        if rng.random() < 0.3:
            options["boundary"] = "circular"
        if rng.random() < 0.5:
            groups, c_out, c_in = rng.integers(1, 3, 3).tolist()
            k, n = [c_out * groups, c_in, *k], [c_in * groups, *n]
            options["groups"] = groups
        kernel = whole(values(rng, k, "complex128"), DTYPES[seed % 4])
        try:
            geometry = Geometry.conv(kernel.shape, tuple(n), **options)
        except ValueError:
            continue
        A = Direct(geometry, kernel, tiled=True)
        if all(A.tiles(kernel.dtype, transposed=t) for t in (False, True)):
            return kernel, tuple(n), options


def assert_equal(product, x, right, cupy):
    np.testing.assert_array_equal(product(cupy.asarray(x)).get(), right)


def assert_products(seed, tiled, kernel, in_shape, options, cupy):
    """Assert that both products of two columns are those of the host's matrix, bit for bit."""
    C = linconv.conv_matrix(kernel, in_shape, **options)
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    A = Direct(geometry, cupy.asarray(kernel), tiled)
    rng = np.random.default_rng(seed)
    X, Y = (whole(values(rng, (n, 2), "c16"), kernel.dtype) for n in C.shape[::-1])
    assert_equal(A.forward, X, C @ X, cupy)
    assert_equal(A.adjoint, Y, C.conj().T @ Y, cupy)
    return A


@pytest.mark.parametrize("seeds", [range(i, i + 40) for i in range(0, 400, 40)], ids=str)
def test_products_by_tiles_are_those_of_the_matrix(seeds, cupy):
    for seed in seeds:
        kernel, in_shape, options = unit_strides(seed)
        for tiled in (True, None):
            assert_products(seed, tiled, kernel, in_shape, options, cupy)


def test_awkward_geometries_by_tiles_wherever_they_can(cupy):
    tiled = 0
    for seed in range(200):
        kernel, in_shape, options = random_geometry(seed)
        if seed % 4:
            options["padding"], options["stride"] = "same", 1
        kernel = whole(kernel, kernel.dtype)
        A = assert_products(seed, True, kernel, in_shape, options, cupy)
        tiled += sum(bool(A.tiles(kernel.dtype, transposed=t)) for t in (False, True))
    assert tiled >= 200


@pytest.mark.parametrize("seed", range(12))
def test_tiles_round_as_products_without_them(seed, cupy):
    kernel, in_shape, options = unit_strides(seed)
    rng = np.random.default_rng(seed)
    kernel = values(rng, kernel.shape, kernel.dtype)
    geometry = Geometry.conv(kernel.shape, in_shape, **options)
    by_tiles, by_lines = (Direct(geometry, cupy.asarray(kernel), t) for t in (True, False))
    weight = 20 * np.abs(kernel).sum()  # antireflect takes up to five times a tap
    for name, size in zip(("forward", "adjoint"), geometry.shape[::-1], strict=True):
        for dtype in DTYPES:
            x = cupy.asarray(values(rng, (size, 3), dtype))
            got, right = (getattr(A, name)(x).get() for A in (by_tiles, by_lines))
            eps = max(np.finfo(dtype).eps, np.finfo(kernel.dtype).eps)
            assert got.dtype == right.dtype
            assert np.abs(got - right).max() <= 200 * eps * weight


@pytest.mark.parametrize("boundary", ["zeros", "reflect", "circular"])
def test_what_is_not_finite_stays_where_it_belongs(boundary, cupy):
    kernel = np.arange(1.0, 16).reshape(3, 5)
    x = np.ones((40, 70))
    x[0, 3], x[20, 31], x[39, 69] = np.inf, np.nan, -np.inf
    options = {"padding": "same", "boundary": boundary}
    C = linconv.conv_matrix(kernel, x.shape, **options)
    A = Direct(Geometry.conv(kernel.shape, x.shape, **options), cupy.asarray(kernel), True)
    assert_equal(A.forward, x.reshape(-1, 1), C @ x.reshape(-1, 1), cupy)
    assert_equal(A.adjoint, x.reshape(-1, 1), C.T @ x.reshape(-1, 1), cupy)


def uses_tiles(shape, in_shape, dtype="float32", **options):
    """Say for C and for C^H whether the products of "direct" use tiles."""
    A = Direct(Geometry.conv(shape, in_shape, **options), np.ones(shape, dtype))
    return tuple(bool(A.tiles(dtype, transposed=t)) for t in (False, True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "in_shape"),
    [
        ((9,), (100_000,)),
        ((3, 3), (2048, 2048)),
        ((9, 9), (1024, 1024)),
        ((5, 5, 5), (128, 128, 128)),
        ((2, 3, 5, 5), (3, 200, 300)),
    ],
)
def test_images_are_multiplied_by_tiles(shape, in_shape, dtype):
    for boundary in ("zeros", "reflect", "circular"):
        options = {"padding": "same", "boundary": boundary}
        assert uses_tiles(shape, in_shape, dtype, **options) == (True, True)


def test_what_shares_little_or_does_not_fit_has_no_tiles():
    assert uses_tiles((3, 3), (500, 500), stride=2) == (False, False)
    assert uses_tiles((3, 3), (500, 500), stride=(1, 2)) == (False, False)
    assert uses_tiles((1, 3), (500, 500)) == (False, False)  # reads samples three times
    assert uses_tiles((9, 9), (12, 12), padding=8) == (False, False)  # edges, most of it
    assert uses_tiles((90, 90), (500, 500)) == (False, False)  # taps alone take 32 KiB
    assert uses_tiles((3,) * 4, (20,) * 4) == (False, False)
    assert uses_tiles((31, 31), (500, 500), "float64") == (True, True)
    assert uses_tiles((31, 31), (500, 500), "complex128") == (False, False)
    assert uses_tiles((9,), (1 << 30,)) == (True, True)
    assert uses_tiles((9,), ((1 << 30) + 1,)) == (False, False)


def test_tiles_are_within_what_a_block_has():
    found = []
    for seed in range(100):
        kernel, in_shape, options = unit_strides(seed)
        A = Direct(Geometry.conv(kernel.shape, in_shape, **options), kernel, tiled=True)
        found += [A.tiles(dtype, transposed=t) for dtype in DTYPES for t in (False, True)]
    fitting = [tiles for tiles in found if tiles]
    assert len(fitting) > 700
    for tiles in fitting:
        assert tiles.shared <= tiles.MOST_SHARED
        assert tiles.threads <= kernels.MOST_THREADS
        assert 0 < tiles.kept <= 1
        rows, tile, counts = tiles.numbers[:, [0, 8, 10]].T
        assert (tile * counts >= rows).all()
        assert (tile * (counts - 1) < rows).all()


def test_an_operator_multiplies_by_tiles_and_moves_nothing(cupy):
    devices.skip_unless_counted(cupy)
    A = linconv.Conv(cupy.asarray(np.ones((3, 3))), (64, 96), padding=1)
    assert all(A._engine.tiles(A.dtype, transposed=t) for t in (False, True))
    assert A.with_kernel(2 * A.kernel)._engine.tiles(A.dtype, transposed=False)
    X = cupy.asarray(np.ones((A.shape[1], 3)))
    A.H @ (A @ X)  # the first product sends tables
    before = standin.transfers.to_host, standin.transfers.to_device
    A.H @ (A @ X), A.T @ (A @ X[:, 0])
    assert (standin.transfers.to_host, standin.transfers.to_device) == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_a_threads_results_stay_in_registers(dtype, index):
    kernels = compiled_for_a_device(dtype, index).split(".visible .entry ")[1:]
    (ptx,) = (kernel for kernel in kernels if kernel.startswith("multiply_tiles("))
    assert ".local" not in ptx
    assert "ld.shared" in ptx
    assert "bar.sync" in ptx


# Reverse the numbers of a block in shared memory.
REVERSE = r"""
struct value { double part; };
extern "C" __global__ void reverse(const value* x, value* y)
{
    extern __shared__ value shared_memory[];
    int t = (int) threadIdx.x, last = (int) blockDim.x - 1;
    shared_memory[t] = x[t];
    BARRIER
    y[t] = shared_memory[last - t];
}
"""


@pytest.mark.skipif(GPU, reason="the stand-in is for machines without a CUDA device")
@pytest.mark.skipif(not host_kernels.COMPILER, reason="needs a C++ compiler")
class TestHostKernels:
    def run(self, barrier, shared=8 * 64):
        with standin.installed() as cupy:
            x, y = cupy.asarray(np.arange(64.0)), cupy.asarray(np.zeros(64))
            code = REVERSE.replace("BARRIER", barrier)
            kernel = cupy.RawModule(code=code, options=("-std=c++17",)).get_function("reverse")
            kernel((1,), (64,), (x, y), shared_mem=shared)
            return y.get()

    def test_threads_wait_for_each_other(self):
        np.testing.assert_array_equal(self.run("__syncthreads();"), np.arange(64.0)[::-1])

    def test_a_missing_barrier_is_seen(self):
        # The barrier is there for the runner to use fibers, and nobody gets to it.
        got = self.run("if (t > last) __syncthreads();")
        assert np.isnan(got[:32]).all()

    def test_a_barrier_that_some_do_not_reach_is_refused(self):
        with pytest.raises(AssertionError, match="reverse: threads wait at different barr"):
            self.run("if (t) __syncthreads();")

    def test_threads_that_wait_at_two_barriers_are_refused(self):
        with pytest.raises(AssertionError, match="reverse: threads wait at different barr"):
            self.run("if (t % 2) __syncthreads();\nelse __syncthreads();")

    def test_writing_behind_shared_memory_is_refused(self):
        with pytest.raises(AssertionError, match="at different barriers, or write behind"):
            self.run("__syncthreads();", 8 * 63)

    def test_more_than_48_kib_are_refused(self):
        with pytest.raises(
            AssertionError, match="49160 bytes of shared memory, at most 49152"
        ):
            self.run("__syncthreads();", 8 * 6145)

    def test_shared_memory_of_a_fixed_size_is_refused(self):
        with pytest.raises(AssertionError, match="only dynamic shared memory"):
            self.run("__shared__ double a[64]; a[t] = x[t].part; __syncthreads();")
