"""Norms, preconditioners and transforms of operators on the device: the host's are right."""

import devices
import numpy as np
import pytest
from helpers import NUMPY_MODES, circular, random, rotated, same

import linconv
from linconv import spectrum
from linconv.solvers import lstsq


def taps(*shape, dtype="float64"):
    return random(shape, dtype, 6230)


def assert_close(got, right, bound=1e-10):
    assert got.dtype == right.dtype
    assert got.shape == right.shape
    bound = 1e-4 if right.dtype.char in "fF" else bound
    atol = bound * np.abs(right).max(initial=1e-300)
    np.testing.assert_allclose(got.get(), right, rtol=0, atol=atol)


def every(dtype):
    """Operators by name, on the host: with and without structure, small and large."""
    B = same(taps(3, 2, dtype=dtype), (4, 5))
    C = circular(taps(2, 3, dtype=dtype), (4, 5))
    D = linconv.Diagonal(taps(4, 5, dtype=dtype))
    return {
        "circular": C, "channels": circular(taps(3, 2, 2, 3, dtype=dtype), (2, 4, 5)), "bounded": B,
        "valid, channels": linconv.Conv(taps(3, 2, 2, dtype=dtype), (2, 6)),
        "view of a multiple": (2 * C).H, "diagonal": D,
        "restriction": linconv.Restriction([0, 2, 2, 1], 4, dtype=dtype),
        "matrix": linconv.Matrix(taps(6, 4, dtype=dtype)),
        "kron": linconv.kron(linconv.Matrix(taps(2, 3, dtype=dtype)), C),
        "blocks": linconv.block([[B, None], [linconv.Identity((4, 5), dtype), C]]),
        "diagonal blocks": linconv.block_diag([B, C, linconv.Identity(3, dtype)]),
        "sum": C + B + 3 * linconv.Identity((4, 5), dtype),
        "large": same(taps(3, 3, dtype=dtype), (12, 13)),
        "large and wide": linconv.Conv(taps(2, 3, dtype=dtype), (12, 13)),
        "large matrix": linconv.Matrix(taps(70, 200, dtype=dtype)),
    }  # fmt: skip


NAMES = tuple(every("float64"))


@pytest.mark.parametrize(("dtype", "name"), rotated(devices.DTYPES, NAMES))
def test_norms_and_singular_values_are_those_of_the_host(name, dtype, cupy):
    A = every(dtype)[name]
    moved = A.to("gpu")
    dense = np.linalg.svd(A.toarray().astype(complex), compute_uv=False)
    value = spectrum.norm(moved)
    assert type(value) is float
    single = A.dtype.char in "fF"
    assert abs(value - dense[0]) <= (1e-5 if single else 1e-7) * dense[0]
    for k in (1, 3):
        values = spectrum.singular_values(moved, k)
        assert isinstance(values, cupy.ndarray)
        assert_close(values, dense[:k].astype("float32" if single else "float64"))
    assert_close(
        spectrum.singular_values(moved), dense.astype("float32" if single else "float64")
    )


@pytest.mark.parametrize(("dtype", "name"), rotated(devices.DTYPES, NAMES))
def test_norms_of_rows_and_columns_are_those_of_the_host(name, dtype, cupy):
    A = every(dtype)[name]
    moved = A.to("gpu")
    squares = (np.abs(A.toarray()) ** 2).astype(A.toarray().real.dtype)
    assert_close(spectrum.gram_diagonal(moved), squares.sum(axis=0).reshape(A.in_shape))
    assert_close(
        spectrum.column_norms(moved), np.sqrt(squares.sum(axis=0)).reshape(A.in_shape)
    )
    assert_close(spectrum.row_norms(moved), np.sqrt(squares.sum(axis=1)).reshape(A.out_shape))


def test_a_product_says_where_its_column_norms_can_be_found(cupy):
    A = same(taps(3), 6).to("gpu")
    with pytest.raises(NotImplementedError, match=r"no matrix on the GPU.*A\.to\('cpu'\)"):
        spectrum.gram_diagonal(A @ A)
    assert spectrum.norm(A.H @ A) == pytest.approx(spectrum.norm(A) ** 2)
    assert spectrum.gram_diagonal((A @ A).to("cpu")).shape == (6,)


def test_only_what_is_small_is_copied_to_the_host(cupy):
    A = linconv.Conv(cupy.asarray(taps(3, 3)), (40, 40), padding=1, boundary="circular")
    for work in (spectrum.norm, spectrum.gram_diagonal, spectrum.circulant_preconditioner):
        number, _ = devices.copies(cupy, lambda work=work: work(A))
        assert number == 1  # the kernel
    large = linconv.Matrix(taps(100, 90)).to("gpu")
    number, _ = devices.copies(cupy, lambda: spectrum.column_norms(large))
    assert number == 1  # the size of an entry: the unit of the squares
    number, _ = devices.copies(cupy, lambda: large.to("gpu").H @ cupy.asarray(np.ones(100)))
    assert number == 0


# Preconditioners


def preconditioned(dtype):
    """Problems: an operator, and penalties of the same input."""
    B = same(taps(3, 3, dtype=dtype), (6, 7))
    L = linconv.gradient((6, 7), dtype=np.zeros(0, dtype).real.dtype)
    seen = np.arange(42).reshape(6, 7) % 5 > 0
    weights = np.linspace(1, 2, 42).reshape(6, 7).astype(dtype)
    layer = taps(3, 2, 3, dtype=dtype)
    yield B, [(0.3, L)]
    yield linconv.Diagonal(weights) @ B, []
    yield linconv.Restriction(seen, dtype=dtype) @ B, [(0.1, linconv.Identity((6, 7), dtype))]
    yield circular(taps(2, 3, dtype=dtype), (6, 7)), []
    yield linconv.Conv(layer, (2, 9)), []
    yield linconv.Conv(layer, (2, 9), padding=1, boundary="reflect"), []
    for rule in NUMPY_MODES:
        yield same(taps(3, 2, dtype=dtype), (6, 7), boundary=rule), []
    yield linconv.vstack([B, 2j * B if "complex" in dtype else 2 * B]), []


@pytest.mark.parametrize("dtype", devices.DTYPES)
def test_preconditioners_on_the_device_are_those_of_the_host(dtype, cupy):
    rng = np.random.default_rng(77)
    for A, penalties in preconditioned(dtype):
        M = spectrum.circulant_preconditioner(A, 0.5, penalties)
        moved = [(w, L.to("gpu")) for w, L in penalties]
        got = spectrum.circulant_preconditioner(A.to("gpu"), 0.5, moved)
        assert got.device == "gpu"
        assert got.hermitian
        assert repr(got) == repr(M)
        dense = M.toarray()
        for kind in devices.DTYPES:
            for columns in ((), (3,), (0,)):
                X = rng.standard_normal((M.shape[1], *columns)).astype(kind)
                right = dense.astype(np.result_type(dense, X)) @ X
                assert_close(
                    got @ cupy.asarray(X),
                    right,
                    1e-4 if dtype in ("float32", "complex64") else 1e-10,
                )
        x = rng.standard_normal((2, *M.in_shape)).astype(dtype)
        assert_close(got(cupy.asarray(x)), M(x))
        again = got.to("cpu")
        assert again.device == "cpu"
        assert got.to("gpu") is got
        assert_close(cupy.asarray(again.toarray()), dense)


def test_a_circulant_of_complex_spectrum_has_its_adjoint_there(cupy):
    C = circular(np.array([1.0, 2, 4]), 5)
    S = np.fft.fft(C.toarray()[:, 0]).reshape(1, 1, 1, 5)
    y = np.arange(5.0)
    M = spectrum.Circulant(cupy.asarray(S[..., :3].copy()), 5, (5,))
    assert M.device == "gpu"
    assert not M.hermitian
    assert_close(M @ cupy.asarray(y), C @ y)
    assert_close(M.H @ cupy.asarray(y), C.T @ y)
    moved = spectrum.Circulant(S, 5, (5,), dtype=complex).to("gpu")
    assert_close(moved.H @ cupy.asarray(y), (C.T @ y).astype(complex))
    with pytest.raises(NotImplementedError, match=r"Circulant has no matrix on the GPU: use"):
        M.tosparse()


def test_a_product_with_a_preconditioner_copies_nothing(cupy):
    for A, penalties in preconditioned("float64"):
        moved = [(w, L.to("gpu")) for w, L in penalties]
        M = spectrum.circulant_preconditioner(A.to("gpu"), 0.5, moved)
        x = cupy.asarray(np.ones((M.shape[1], 2)))
        assert devices.copies(cupy, lambda M=M, x=x: M.H @ (M @ x))[0] == 0


def test_preconditioners_do_not_join_devices(cupy):
    A = same(taps(3), 6)
    with pytest.raises(TypeError, match="must lie on one device"):
        spectrum.circulant_preconditioner(A.to("gpu"), 1, [(1, A)])
    M = spectrum.circulant_preconditioner(same(taps(3, dtype="longdouble"), 6), 1)
    with pytest.raises(TypeError, match=r"the operator has dtype .*128, but CuPy's"):
        M.to("gpu")


def test_the_preconditioner_saves_iterations_on_the_device(cupy):
    h = np.exp(-(np.arange(-4, 5.0) ** 2) / 8)
    A = linconv.Conv(np.outer(h, h) / h.sum() ** 2, (32, 32), padding=4)
    b = A(np.random.default_rng(7).random((32, 32)))
    right = lstsq(A, b, damp=0.03, tol=1e-8)
    moved = A.to("gpu")
    M = spectrum.circulant_preconditioner(moved, 0.03)
    got = lstsq(moved, cupy.asarray(b), damp=0.03, tol=1e-8, preconditioner=M)
    assert got.converged
    assert 3 * got.iterations < right.iterations
    assert_close(got.x, right.x, 1e-5)
