"""FilterConv and VaryingConv of CuPy arrays: the host's matrices are the truth."""

import pickle

import devices
import numpy as np
import pytest
import standin
from devices import DTYPES
from helpers import assert_refused, few, random_geometry, values
from test_gpu import assert_same, whole

import linconv
from linconv.geometry import Geometry
from linconv.gpu import matrices


def filter_matrix(x, shape, options):
    """Return the matrix of a convolution as a function of its kernel, by columns."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    columns = [linconv.conv_matrix(unit, x.shape, **options) @ x.ravel() for unit in units]
    return np.stack(columns, axis=1)


def filters(seeds):
    """Yield (x, shape of a kernel, options, matrix) of whole numbers."""
    for seed in seeds:
        kernel, in_shape, options = random_geometry(seed)
        if kernel.size > 64:
            continue
        rng = np.random.default_rng(seed)
        x = whole(values(rng, in_shape, "complex128"), DTYPES[seed % 4])
        yield x, kernel.shape, options, filter_matrix(x, kernel.shape, options)


@pytest.mark.parametrize(
    "seeds", few([range(i, i + 30) for i in range(0, 120, 30)], 1), ids=str
)
def test_the_kernel_is_the_unknown_on_the_device(seeds, cupy):
    for x, shape, options, right in filters(seeds):
        F = linconv.FilterConv(cupy.asarray(x), shape, **options)
        assert F.device == F.H.device == "gpu"
        assert F.dtype == x.dtype
        np.testing.assert_array_equal(F.toarray().get(), right.astype(x.dtype))
        assert F.tosparse().has_canonical_format
        rng = np.random.default_rng(len(right))
        for dtype in DTYPES:
            for A, matrix in ((F, right), (F.H, right.conj().T), (F.T, right.T)):
                X = whole(values(rng, (A.shape[1], 3), "complex128"), dtype)
                for w in (X, X[:, 0], X[:, :1], X[:, :0]):
                    got = (A @ cupy.asarray(w)).get()
                    assert got.dtype == np.result_type(x.dtype, dtype)
                    # whole numbers below 2^24 add up exactly in any order
                    np.testing.assert_array_equal(got, (matrix @ w).astype(got.dtype))


@pytest.mark.parametrize(
    "seeds", few([range(i, i + 50) for i in range(0, 200, 50)], 1), ids=str
)
def test_every_position_has_its_kernel_on_the_device(seeds, cupy):
    count = 0
    for seed in seeds:
        kernel, in_shape, options = random_geometry(seed)
        if "groups" in options:
            continue
        geometry = Geometry.conv(kernel.shape, in_shape, **options)
        rng = np.random.default_rng(seed)
        shape = (*geometry.out_shape, *kernel.shape)
        kernels = whole(values(rng, shape, "complex128"), DTYPES[seed % 4])
        V = linconv.VaryingConv(cupy.asarray(kernels), in_shape, **options)
        right = linconv.VaryingConv(kernels, in_shape, **options).tosparse()
        assert V.device == "gpu"
        assert_same(V.tosparse(), right)
        X = whole(values(rng, (V.shape[1], 2), "complex128"), DTYPES[seed % 3])
        np.testing.assert_array_equal((V @ cupy.asarray(X)).get(), right @ X)
        Y = whole(values(rng, (V.shape[0], 2), "complex128"), DTYPES[seed % 3])
        np.testing.assert_array_equal((V.H @ cupy.asarray(Y)).get(), right.conj().T @ Y)
        count += 1
    assert count > 10


def test_long_rows_and_long_lines_have_their_kernels(cupy):
    rng = np.random.default_rng(12)
    for in_shape, shape, options in (
        ((3, 700), (3, 9), {"padding": "same", "boundary": "symmetric"}),
        ((900,), (40,), {"padding": "full"}),
        ((2,), (5,), {"padding": 9, "boundary": "antireflect"}),
    ):
        geometry = Geometry.conv(shape, in_shape, **options)
        kernels = np.round(9 * rng.standard_normal((*geometry.out_shape, *shape)))
        V = linconv.VaryingConv(cupy.asarray(kernels), in_shape, **options)
        assert_same(V.tosparse(), linconv.VaryingConv(kernels, in_shape, **options).tosparse())


def test_both_move_there_and_back(cupy):
    rng = np.random.default_rng(13)
    x, kernels = rng.standard_normal((6, 7)), rng.standard_normal((6, 7, 3, 3))
    options = {"padding": 1, "boundary": "reflect"}
    F = linconv.FilterConv(x, (3, 3), **options)
    V = linconv.VaryingConv(kernels, (6, 7), **options)
    for A in (F, V):
        moved = A.to("gpu")
        assert moved.device == "gpu"
        back = moved.to("cpu")
        assert back.device == A.device == "cpu"
        np.testing.assert_array_equal(back.toarray(), A.toarray())
        np.testing.assert_array_equal(moved.toarray().get(), A.toarray())
        again = pickle.loads(pickle.dumps(back))
        np.testing.assert_array_equal(again.toarray(), A.toarray())
        w, y = rng.standard_normal(A.in_shape), rng.standard_normal(A.out_shape)
        np.testing.assert_allclose(moved(cupy.asarray(w)).get(), A(w), atol=1e-13)
        np.testing.assert_allclose(moved.H(cupy.asarray(y)).get(), A.H(y), atol=1e-13)
    with pytest.raises(ValueError, match="read-only"):
        F.to("gpu").to("cpu")._patches[0] = 0


def test_neither_copies_to_the_host(cupy):
    x, kernels = cupy.asarray(np.ones((6, 7))), cupy.asarray(np.ones((6, 7, 3, 3)))
    devices.skip_unless_counted(cupy)
    before = standin.transfers.to_host
    options = {"padding": 1, "boundary": "reflect"}
    F = linconv.FilterConv(x, (3, 3), **options)
    V = linconv.VaryingConv(kernels, (6, 7), **options)
    moved = standin.transfers.to_device
    for A in (F, V):
        A.H @ (A @ cupy.ones(A.shape[1], "c16"))
        A.tosparse()
    assert standin.transfers.to_host == before
    assert standin.transfers.to_device == moved


def test_what_neither_can_hold_is_said(cupy, monkeypatch):
    assert_refused(
        (TypeError, "x has dtype int64, but CuPy's sparse matrices hold", lambda: linconv.FilterConv(cupy.asarray(np.arange(5)), 2)),
        (TypeError, "x has dtype int64, but CuPy's sparse matrices hold", lambda: linconv.FilterConv(np.arange(5), 2).to("gpu")),
        (TypeError, "kernels has dtype int64, but CuPy's", lambda: linconv.VaryingConv(cupy.asarray(np.ones((2, 2), int)), 3)),
        (ValueError, r"kernels has shape \(5, 2\), but the geometry needs", lambda: linconv.VaryingConv(cupy.asarray(np.ones((5, 2))), 3)),
        (TypeError, "x must be a CuPy array, as the operator lies on the", lambda: linconv.FilterConv(cupy.asarray(np.ones(5)), 2) @ np.ones(2)),
        (ValueError, "has at most 16 axes, got 17", lambda: linconv.VaryingConv(cupy.asarray(np.ones((1,) * 34)), (1,) * 17, stride=(1,) * 17)),
    )  # fmt: skip
    F = linconv.FilterConv(cupy.asarray(np.ones((60, 60))), (9, 9))
    monkeypatch.setattr(matrices, "_free", lambda: 10_000)
    assert_refused(
        (MemoryError, r"patches .* and the device has 10,000 left: use a", lambda: linconv.FilterConv(cupy.asarray(np.ones((60, 60))), (9, 9))),
        (MemoryError, r"the matrix .* and the device has 10,000 left", lambda: F.tosparse()),
    )  # fmt: skip
