"""A right and a broken operator of every library, judged by `check_adjoint`.

The broken operators are of the library's own classes, so that its adapter reads them.
Faults that the harness finds in published operators are tested here too, except those in
PyLops, which have a file of their own.  Tests that need a library import it, and are
skipped where it is not installed.
"""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import standin
from helpers import quietly, random

from linconv.testing import check_adjoint
from linconv.testing.subjects import arrays as libraries

IGNORED = "the weights of the inner product are ignored"
NOT_CONJUGATED = "the adjoint is the transpose: the conjugate is missing"
IDENTITY = {"A01", "A02", "A03"}
# Checks that need not apply: only some operators have integer results, only SciPy's
# operator of a matrix has a known matrix, and none has a reference.
OPTIONAL = {"E01", "E02", "R01", "R02"}
PAIR = {"C08", "C10"}  # no matmat, nothing to pickle


def values(*shape, dtype="float64", seed=90210):
    return random(shape, dtype, seed)


def assert_right(A, *functions, lacks=(), **options):
    """Assert that every check passes, but those that an operator like this has not got."""
    report = check_adjoint(A, *functions, level="standard", **options)
    assert report.passed, str(report)
    assert report.diagnosis == ""
    passed = {check.code for check in report.checks if check.status == "passed"}
    missing = {check.code for check in report.checks} - passed - OPTIONAL
    assert missing == set(lacks), str(report)
    return report


def diagnosis_of(A, *functions, codes=None, **options):
    """Assert that `A` fails, with these checks, and return what is said of it."""
    report = check_adjoint(A, *functions, level="standard", **options)
    assert not report.passed
    failed = {check.code for check in report.failed} - {"R01", "E02"}
    assert failed == (IDENTITY if codes is None else codes), str(report)
    return report.diagnosis


# SciPy

M = values(5, 7, dtype="complex128", seed=5417)


class Products(scipy.sparse.linalg.LinearOperator):
    """A matrix behind SciPy's class; `sign` spoils the adjoint."""

    def __init__(self, matrix, sign=1):
        super().__init__(matrix.dtype, matrix.shape)
        self.matrix, self.sign = matrix, sign

    def _matvec(self, x):
        return self.matrix @ x

    def _rmatvec(self, y):
        return self.sign * (self.matrix.conj().T @ y)


SCIPY_MATRIX = type(scipy.sparse.linalg.aslinearoperator(np.eye(1)))


class Transposing(SCIPY_MATRIX):
    """SciPy's own operator of a matrix, with an adjoint that it has not."""

    def _rmatvec(self, y):
        return self.A.T @ y

    _rmatmat = _rmatvec


def of_functions(forward, adjoint):
    return scipy.sparse.linalg.LinearOperator(
        M.shape, forward, adjoint, dtype=np.dtype(complex)
    )


def test_scipy_operators_of_functions_are_right_or_not_conjugated():
    assert_right(of_functions(lambda x: M @ x, lambda y: M.conj().T @ y), lacks={"C10"})
    wrong = of_functions(lambda x: M @ x, lambda y: M.T @ y)
    assert diagnosis_of(wrong) == NOT_CONJUGATED


def test_scipy_operators_of_a_class_are_right_or_have_the_wrong_sign():
    right = Products(M)
    for A in (right, right.H, 2j * right, right.H @ right):
        assert_right(A)
    assert diagnosis_of(Products(M, -1)) == "adjoint = -1 x the true adjoint"
    assert diagnosis_of(2 * Products(M, -1)) == "adjoint = -1 x the true adjoint"


@pytest.mark.parametrize("form", [np.array, scipy.sparse.csr_array])
def test_scipys_own_operator_of_a_matrix_is_held_against_the_matrix(form):
    report = assert_right(scipy.sparse.linalg.aslinearoperator(form(M)))
    assert report["R01"].status == "passed"
    assert diagnosis_of(Transposing(form(M))) == NOT_CONJUGATED


# PyLops

PYLOPS_RIGHT = {
    "FirstDerivative": lambda p: p.FirstDerivative((6, 5), axis=0, edge=True),
    "FirstDerivative, float32": lambda p: p.FirstDerivative((6, 5), dtype="float32"),
    "Convolve1D": lambda p: p.signalprocessing.Convolve1D((6, 7), values(3), 1, axis=0),
    "Convolve1D by FFT": lambda p: p.signalprocessing.Convolve1D(
        40, values(5), offset=2, method="fft"
    ),
    "FFT": lambda p: p.signalprocessing.FFT((4, 9), axis=1, dtype="complex128"),
    "FFT, complex64": lambda p: p.signalprocessing.FFT(16, dtype="complex64", engine="scipy"),
    "real FFT": lambda p: p.signalprocessing.FFT(15, real=True, dtype="float64"),
    "stacked": lambda p: p.VStack([p.FirstDerivative(12), 0.3 * p.SecondDerivative(12)]),
    "composed": lambda p: (2 - 1j) * filtered(p, "complex128"),
    "MatrixMult": lambda p: p.MatrixMult(M, dtype="complex128"),
    "MatrixMult, columns": lambda p: p.MatrixMult(M.real, otherdims=(3,)),
    "Real": lambda p: p.Real(5, dtype="complex128"),
    "Conj": lambda p: p.Conj(5, dtype="complex128"),
}
REAL_LINEAR = {"C02", "L03", "A03"}
NO_COMPLEX_INPUT = {"L03"}
PYLOPS_LACKS = {
    **dict.fromkeys(["real FFT", "Real", "Conj"], REAL_LINEAR),
    **dict.fromkeys(["FirstDerivative", "stacked"], NO_COMPLEX_INPUT),
    "FirstDerivative, float32": NO_COMPLEX_INPUT,
}


def filtered(pylops, dtype):
    """A filter by Fourier transforms: three operators."""
    F = pylops.signalprocessing.FFT(16, dtype=dtype)
    return F.H @ pylops.Diagonal(values(16, dtype=dtype), dtype=dtype) @ F


@pytest.mark.parametrize("name", PYLOPS_RIGHT)
def test_right_pylops_operators_pass(name):
    pylops = quietly("pylops")
    A = PYLOPS_RIGHT[name](pylops)
    report = assert_right(A, lacks=PYLOPS_LACKS.get(name, ()))
    assert report.subject == f"{type(A).__name__} of PyLops"


def rewritten(kind, **methods):
    """A class of another library's, with some of its methods written anew."""
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__})


def test_a_pylops_operator_that_is_not_conjugated_is_found():
    pylops = quietly("pylops")
    Wrong = rewritten(pylops.MatrixMult, _rmatvec=lambda self, y: self.A.T @ y)
    wrong = Wrong(M, dtype="complex128")
    assert diagnosis_of(wrong) == NOT_CONJUGATED


def test_a_pylops_operator_that_is_shifted_is_found():
    signal = quietly("pylops.signalprocessing")

    def shifted(self, y):
        moved = np.roll(y.reshape(self.dimsd), -1, axis=0)
        moved[-1] = 0
        return signal.Convolve1D._rmatvec(self, moved.ravel())

    wrong = rewritten(signal.Convolve1D, _rmatvec=shifted)((9, 7), values(3), 1, axis=0)
    assert "shifted by one along axis 0" in diagnosis_of(wrong)


def test_a_pylops_operator_that_is_scaled_is_found_inside_a_composed_one():
    pylops = quietly("pylops")
    FFT = pylops.signalprocessing.FFT
    kind = type(FFT(16, dtype="complex128"))
    wrong = rewritten(kind, _rmatvec=lambda self, y: kind._rmatvec(self, y) / 16)
    A = wrong(16, dtype="complex128")
    said = "adjoint = 0.0625 x the true adjoint = 1/N, N = 16"
    assert diagnosis_of(A) == said
    assert diagnosis_of(pylops.Identity(16, dtype="complex128") @ A) == said


def test_a_pylops_operator_that_forgets_its_edges_is_found():
    pylops = quietly("pylops")
    kind = pylops.FirstDerivative
    right, inner = kind(12, edge=True), kind(12, edge=False)
    wrong = rewritten(kind, _rmatvec=lambda self, y: inner._rmatvec(y))(12, edge=True)
    assert_right(right, lacks=NO_COMPLEX_INPUT)
    said = diagnosis_of(wrong)
    assert any(word in said for word in ("boundary", "missing", "wrong entries")), said


def test_a_pylops_operator_that_works_in_place_is_found():
    pylops = quietly("pylops")

    def doubled(self, x):
        x *= 2
        return x.copy()

    wrong = rewritten(pylops.Identity, _matvec=doubled, _rmatvec=doubled)(6)
    said = diagnosis_of(wrong, codes={"C03", "C07"})
    assert said.startswith("matvec changes its input; rmatvec changes its input")


# SigPy

SIGPY_RIGHT = {
    "ConvolveData": lambda L: L.ConvolveData((6, 7), values(3, 2)),
    "ConvolveData, complex": lambda L: L.ConvolveData(
        (3, 7, 6), values(2, 3, 3, 2, dtype=complex), "valid", (2, 2), True
    ),
    "ConvolveFilter": lambda L: L.ConvolveFilter((3, 2), values(6, 7, dtype=complex)),
    "Resize": lambda L: L.Resize((9, 4), (6, 7)),
    "FFT": lambda L: L.FFT((6, 7)),
    "FiniteDifference": lambda L: L.FiniteDifference((4, 5)),
    "Wavelet": lambda L: L.Wavelet((16,), wave_name="haar"),
    "composed": lambda L: (
        L.FFT((9, 4)) * L.Resize((9, 4), (6, 7)) * L.Multiply((6, 7), values(6, 7, dtype="D"))
    ),
}
SIGPY_LACKS = {"C02", "C08"}  # it declares no dtype, and multiplies one vector at a time


@pytest.mark.parametrize("name", SIGPY_RIGHT)
def test_right_sigpy_operators_pass(name):
    A = SIGPY_RIGHT[name](quietly("sigpy.linop"))
    report = assert_right(A, lacks=SIGPY_LACKS)
    assert report.subject == f"{type(A).__name__} of SigPy"
    assert report.dtype == np.complex128


def test_a_sigpy_operator_that_is_not_conjugated_is_found():
    linop = quietly("sigpy.linop")

    def adjoint(self):
        return linop.ConvolveDataAdjoint(self.ishape, self.filt.conj(), mode=self.mode)

    wrong = rewritten(linop.ConvolveData, _adjoint_linop=adjoint)
    assert diagnosis_of(wrong((6, 7), values(3, 2, dtype=complex))) == NOT_CONJUGATED
    assert_right(wrong((6, 7), values(3, 2)), lacks={*SIGPY_LACKS, "C10"})


def test_a_sigpy_operator_that_is_scaled_is_found():
    linop = quietly("sigpy.linop")
    wrong = rewritten(linop.FFT, _adjoint_linop=lambda self: 42 * linop.IFFT(self.ishape))
    said = diagnosis_of(wrong((6, 7)))
    assert said == "adjoint = 42 x the true adjoint = N, N = 42"


def test_a_sigpy_operator_that_is_shifted_is_found():
    linop = quietly("sigpy.linop")

    def adjoint(self):  # cropping starts one too early
        return linop.Resize(self.ishape, self.oshape, ishift=(1, 0), oshift=(0, 0))

    wrong = rewritten(linop.Resize, _adjoint_linop=adjoint)
    A = wrong((9, 7), (5, 7), ishift=(0, 0), oshift=(2, 0))
    assert "shifted by one along axis 0" in diagnosis_of(A)


@pytest.mark.parametrize("name", ["Downsample", "Slice", "Flip", "Transpose"])
def test_the_harness_says_that_sigpys_operators_return_views_of_their_input(name):
    """Writing into the result writes into the input; the numbers are right."""
    linop = quietly("sigpy.linop")
    options = {
        "Downsample": {"ishape": (7, 6), "factors": (2, 3)},
        "Slice": {"ishape": (7, 6), "idx": (slice(1, 3), slice(None))},
        "Flip": {"shape": (7, 6)},
        "Transpose": {"ishape": (7, 6)},
    }
    A = getattr(linop, name)(**options[name])
    said = diagnosis_of(A, codes={"C05"})
    assert "forward's result shares memory with its input" in said
    assert_right(A, lacks={*SIGPY_LACKS, "C05"}, leave_out=["C05"])


# ODL


def plane(odl, dtype="float64"):
    """A space of 4 x 5 samples, each of weight 1/4 x 2/5."""
    return odl.uniform_discr([0, 0], [1, 2], (4, 5), dtype=dtype)


def weighted(odl, weight, domain, dtype="float64"):
    """The operator of a matrix between spaces of such weights."""
    space = odl.cn if np.dtype(dtype).kind == "c" else odl.rn
    matrix = values(4, 6, dtype=dtype)
    X, Y = space(6, weighting=domain), space(4, weighting=weight)
    return odl.MatrixOperator(matrix, domain=X, range=Y)


ODL_RIGHT = {
    "MatrixOperator on rn": lambda odl: odl.MatrixOperator(values(4, 6)),
    "MatrixOperator on cn": lambda odl: odl.MatrixOperator(values(4, 6, dtype=complex)),
    "MatrixOperator, equal weights": lambda odl: weighted(odl, 3.0, 3.0),
    "MatrixOperator, equal weights, complex": lambda odl: weighted(odl, 3.0, 3.0, complex),
    "Gradient": lambda odl: odl.Gradient(plane(odl)),
    "Gradient, float32": lambda odl: odl.Gradient(plane(odl, "float32")),
    "Gradient, complex": lambda odl: odl.Gradient(plane(odl, "complex128")),
    "Divergence": lambda odl: odl.Divergence(range=plane(odl), pad_mode="periodic"),
    "ResizingOperator": lambda odl: odl.ResizingOperator(plane(odl), ran_shp=(6, 7)),
    "inner product": lambda odl: odl.InnerProductOperator(plane(odl).one()),
    "sampling": lambda odl: odl.SamplingOperator(plane(odl), [[0, 1, 3], [1, 4, 2]]),
    "composed": lambda odl: (
        odl.Gradient(plane(odl)) * odl.MultiplyOperator(plane(odl).element(values(4, 5)))
    ),
    "ComplexEmbedding": lambda odl: odl.ComplexEmbedding(odl.rn(4), scalar=1 + 2j),
}


# ODL has no matmat, its matrices hold a module, its real spaces take no complex vectors.
ODL_LACKS = {name: {"C08", "L03"} for name in ODL_RIGHT} | {
    "MatrixOperator on rn": {"C08", "C10", "L03"},
    "MatrixOperator on cn": {"C08", "C10"},
    "MatrixOperator, equal weights": {"C08", "C10", "L03"},
    "MatrixOperator, equal weights, complex": {"C08", "C10"},
    "Gradient, complex": {"C08"},
    "ComplexEmbedding": {"C08", "L03", "A03"},  # from real to complex
}


@pytest.mark.parametrize("name", ODL_RIGHT)
def test_right_odl_operators_pass(name):
    A = ODL_RIGHT[name](quietly("odl"))
    report = assert_right(A, lacks=ODL_LACKS[name])
    assert report.subject == f"{type(A).__name__} of ODL"


def with_adjoint(kind, adjoint):
    return rewritten(kind, adjoint=property(adjoint))


def test_an_odl_operator_with_the_wrong_sign_is_found():
    odl = quietly("odl")
    wrong = with_adjoint(odl.Gradient, lambda self: odl.Divergence(range=self.domain))
    # [1, -1], that is [-1, 1] unflipped: both are true
    said = {
        "adjoint = -1 x the true adjoint",
        "the adjoint correlates with the unflipped kernel",
    }
    assert diagnosis_of(wrong(plane(odl))) in said


def test_an_odl_operator_that_forgets_its_weights_is_found():
    odl = quietly("odl")
    space = plane(odl)  # each of 20 samples weighs 0.1
    right = odl.InnerProductOperator(space.one())
    wrong = with_adjoint(
        odl.InnerProductOperator,
        lambda self: odl.MultiplyOperator(self.vector * 0.1, domain=self.range),
    )
    assert_right(right, lacks=ODL_LACKS["inner product"])
    assert diagnosis_of(wrong(space.one())) == f"adjoint = 0.1 x the true adjoint: {IGNORED}"


def test_an_odl_operator_that_is_not_conjugated_is_found():
    odl = quietly("odl")

    def adjoint(self):
        return odl.MatrixOperator(self.matrix.T, domain=self.range, range=self.domain)

    wrong = with_adjoint(odl.MatrixOperator, adjoint)(values(4, 6, dtype=complex))
    assert diagnosis_of(wrong) == NOT_CONJUGATED


def odl_products(A):
    """Return <A x, y> and <x, A* y> by ODL alone, with the inner products of its spaces."""
    x, y = (
        space.element(values(*space.shape, dtype=space.dtype_identifier, seed=6263 + k))
        for k, space in enumerate((A.domain, A.range))
    )
    return A(x).inner(y), x.inner(A.adjoint(y))


def test_the_harness_says_that_odls_matrix_ignores_different_weights():
    """`MatrixOperator.adjoint` is the conjugate transpose, whatever its spaces weigh."""
    odl = quietly("odl")
    A = weighted(odl, 3.0, 2.0)
    assert diagnosis_of(A) == f"adjoint = 0.666667 x the true adjoint: {IGNORED}"
    left, right = odl_products(A)
    assert right == pytest.approx(left * 2 / 3)
    by_entry = weighted(odl, np.arange(1.0, 5), np.arange(1.0, 7))
    assert diagnosis_of(by_entry) == IGNORED
    left, right = odl_products(by_entry)
    assert left != pytest.approx(right, rel=0.01)


def test_the_harness_says_that_odls_multiplication_ignores_different_weights():
    odl = quietly("odl")
    heavy, plain = odl.rn(3, weighting=2.0), odl.rn(3)
    A = odl.MultiplyOperator(heavy.one(), domain=heavy, range=plain)
    assert diagnosis_of(A) == f"adjoint = 2 x the true adjoint: {IGNORED}"
    left, right = odl_products(A)
    assert right == pytest.approx(2 * left)


def test_the_harness_says_that_odls_fourier_transform_is_scaled():
    """Its adjoint is its inverse, which has 1/N, and the weights of the domain."""
    odl = quietly("odl")
    for length, factor, more in ((1, 1 / 64, ""), (8, 1 / 8, " = 1/N, N = 8")):
        A = odl.trafos.DiscreteFourierTransform(
            odl.uniform_discr(0, length, 8, dtype="complex128")
        )
        assert diagnosis_of(A) == f"adjoint = {factor:.6g} x the true adjoint{more}"
        left, right = odl_products(A)
        assert right == pytest.approx(factor * left)


def test_the_harness_says_that_odls_continuous_transform_is_no_isometry():
    """Its adjoint is its inverse, too; the interpolation makes that another operator."""
    odl = quietly("odl")
    A = odl.trafos.FourierTransform(odl.uniform_discr(0, 1, 8, dtype="complex128"))
    assert diagnosis_of(A).startswith("scaled differently along axis 0 of the output: 2.4674")
    left, right = odl_products(A)
    assert left != pytest.approx(right, rel=0.01)


def test_the_harness_says_that_an_odl_wavelet_transform_loses_its_adjoint_in_a_pickle():
    """PyWavelets pickles the filters, but not that they are orthogonal."""
    odl, pywt = quietly("odl"), quietly("pywt")
    A = odl.trafos.WaveletTransform(odl.uniform_discr(0, 1, 16), "db2", nlevels=1)
    said = diagnosis_of(A, codes={"C10"})
    assert "WaveletTransform of ODL has no adjoint: .adjoint raised OpNotImpl" in said
    assert pywt.Wavelet("db2").orthogonal
    assert not pickle.loads(pickle.dumps(pywt.Wavelet("db2"))).orthogonal
    assert_right(A, lacks={"C08", "C10", "L03"}, leave_out=["C10"])


def test_the_harness_says_that_the_real_part_in_odl_is_a_view():
    odl = quietly("odl")
    report = check_adjoint(odl.RealPart(odl.cn(4)))
    assert "forward's result shares memory with its input" in report.diagnosis


# SCICO


def scico_matrix(dtype):
    return quietly("scico.numpy").array(values(3, 2, dtype=dtype))


def scico_convolution(linop, dtype="complex64", **options):
    return linop.Convolve(scico_matrix(dtype), (6, 7), input_dtype=np.dtype(dtype), **options)


SCICO_RIGHT = {
    "Convolve": lambda L: scico_convolution(L, "float32"),
    "Convolve, complex": lambda L: scico_convolution(L, mode="same"),
    "CircularConvolve": lambda L: L.CircularConvolve(
        scico_matrix("complex64"), (6, 7), input_dtype=np.complex64
    ),
    "FiniteDifference": lambda L: L.FiniteDifference((4, 5), append=0),
    "DFT": lambda L: L.DFT((6, 7), axes=(0,), axes_shape=(9,)),
    "composed": lambda L: (
        scico_convolution(L) @ L.ScaledIdentity(2 - 1j, (6, 7), input_dtype=np.complex64)
    ),
    "made of a function": lambda L: L.linop_from_function(lambda x: 2 * x, "Twice")((6,)),
}
SCICO_LACKS = {"C07", "C08", "C10"}  # JAX has no strides, and what is jitted no pickle


@pytest.mark.parametrize("name", SCICO_RIGHT)
def test_right_scico_operators_pass(name):
    quietly("scico")
    report = assert_right(SCICO_RIGHT[name](quietly("scico.linop")), lacks=SCICO_LACKS)
    assert report.subject.endswith(" of SCICO")
    assert report.dtype in (np.float32, np.complex64)


def test_a_scico_operator_of_a_matrix_passes_and_can_be_pickled():
    quietly("scico")
    linop, snp = quietly("scico.linop"), quietly("scico.numpy")
    matrix = snp.array(M.astype("complex64"))
    assert_right(linop.MatrixOperator(matrix), lacks={"C07", "C08"})


def test_a_scico_operator_that_is_not_conjugated_is_found():
    quietly("scico")
    linop = quietly("scico.linop")

    def spoiled(self):
        linop.Convolve._set_adjoint(self)
        right = self._adj
        self._adj = lambda y: right(y.conj()).conj()

    wrong = rewritten(linop.Convolve, _set_adjoint=spoiled)
    A = wrong(scico_matrix("complex64"), (6, 7), input_dtype=np.complex64)
    assert diagnosis_of(A) == NOT_CONJUGATED


def test_a_scico_operator_with_a_wrong_function_for_its_adjoint_is_found():
    quietly("scico")
    linop = quietly("scico.linop")
    shape = (6,)
    A = linop.LinearOperator(shape, eval_fn=lambda x: 2 * x, adj_fn=lambda y: 3 * y)
    assert diagnosis_of(A) == "adjoint = 1.5 x the true adjoint"


def test_the_harness_says_that_scicos_transpose_of_a_complex_operator_is_not_conjugated():
    """``A.T.adj`` is A, where it should be ``conj . A . conj``; ``A.H`` is right."""
    quietly("scico")
    A = scico_convolution(quietly("scico.linop"))
    assert diagnosis_of(A.T) == NOT_CONJUGATED
    for right in (A.H, A.conj()):
        assert_right(right, lacks=SCICO_LACKS)
    y, x = (values(*shape, dtype="complex64") for shape in (A.T.output_shape, A.T.input_shape))
    left, right = np.vdot(A.T(x), y), np.vdot(x, A.T.adj(y))
    assert abs(left - right) > 0.01 * abs(left)
    assert np.vdot(x, A(y.conj()).conj()) == pytest.approx(left, rel=1e-4)


# Pairs of functions: torch, JAX

SHAPE = (3, 7, 7)
FLOATS = pytest.mark.parametrize("dtype", ["float32", "complex64"])


def torch_pair(dtype, start=1, **changes):
    """A convolution of three channels; torch leaves the conjugate to its user."""
    torch = quietly("torch")
    kernel = torch.from_numpy(values(2, 3, 3, 3, dtype=dtype))
    taps = changes.get("taps", torch.conj_physical)(kernel)

    def forward(x):
        return torch.conv2d(x[None], kernel, stride=2, padding=1)[0]

    def adjoint(y):
        padded = torch.conv_transpose2d(y[None], taps, stride=2)[0]
        return padded[:, start : start + 7, 1:8].clone()

    return forward, adjoint, {"in_shape": SHAPE, "dtype": kernel.dtype}


def pair_lacks(dtype, *more):
    return {*PAIR, *more, *({"L03"} if dtype == "float32" else ())}


@FLOATS
def test_a_right_torch_pair_passes(dtype):
    *functions, options = torch_pair(dtype)
    report = assert_right(*functions, lacks=pair_lacks(dtype), **options)
    assert report.subject == "the pair forward, adjoint"
    assert report.dtype == np.dtype(dtype)


def test_a_torch_pair_that_is_not_conjugated_is_found():
    *functions, options = torch_pair("complex64", taps=lambda kernel: kernel)
    assert diagnosis_of(*functions, **options) == NOT_CONJUGATED


@FLOATS
def test_a_torch_pair_that_is_shifted_or_mixes_channels_up_is_found(dtype):
    *functions, options = torch_pair(dtype, start=0)
    assert "shifted by one along axis 1" in diagnosis_of(*functions, **options)
    *functions, options = torch_pair(dtype, taps=lambda kernel: kernel.conj().flip(1))
    said = diagnosis_of(*functions, **options)
    assert said == "the order of the input channels is wrong: 2, 1, 0"


def jax_pair(dtype, wrap):
    """A convolution, and what `wrap` makes of its transpose."""
    jax = quietly("jax")
    kernel = jax.numpy.asarray(values(2, 3, 3, 3, dtype=dtype))

    def forward(x):
        return jax.lax.conv_general_dilated(x[None], kernel, (2, 1), "SAME")[0]

    number = kernel.dtype.type
    transpose = jax.linear_transpose(forward, jax.ShapeDtypeStruct(SHAPE, number))
    options = {"in_shape": SHAPE, "dtype": getattr(jax.numpy, dtype)}
    return forward, wrap(lambda y: transpose(y)[0]), options


@FLOATS
def test_a_right_jax_pair_passes(dtype):
    *functions, options = jax_pair(dtype, lambda T: lambda y: T(y.conj()).conj())
    assert_right(*functions, lacks=pair_lacks(dtype, "C07"), **options)


def test_jaxs_transpose_is_found_to_be_no_adjoint():
    *functions, options = jax_pair("complex64", lambda T: T)
    assert diagnosis_of(*functions, **options) == NOT_CONJUGATED


def test_a_jax_pair_that_is_scaled_is_found():
    *functions, options = jax_pair("float32", lambda T: lambda y: 2 * T(y))
    assert diagnosis_of(*functions, **options) == "adjoint = 2 x the true adjoint"


# CuPy: its stand-in, on machines without a GPU


@pytest.fixture
def cupy():
    if "cupy" in sys.modules:
        pytest.skip("the real CuPy is here")
    with standin.installed() as module:
        yield module


def device_operator(cupy, spoil=lambda y: y):
    """A dense complex matrix on the device, behind CuPy's class."""
    matrix = cupy.asarray(M)
    linalg = sys.modules["cupyx.scipy.sparse.linalg"]
    return linalg.LinearOperator(
        M.shape,
        lambda x: matrix @ x,
        lambda y: matrix.T.conj() @ spoil(y),
        dtype=np.dtype(complex),
    )


# The stand-in has no blocks of columns, and its class is gone when it is.
CUPY_LACKS = {"C08", "C10"}


def test_a_right_cupy_operator_passes(cupy):
    report = assert_right(device_operator(cupy), lacks=CUPY_LACKS)
    assert report.subject == "_CustomLinearOperator of CuPy"


def test_a_cupy_matrix_is_held_against_itself(cupy):
    sparse = sys.modules["cupyx.scipy.sparse"].csr_matrix(M)
    for A in (sparse, cupy.asarray(M)):
        report = assert_right(A, lacks=CUPY_LACKS)
        assert report["R01"].status == "passed"


def test_a_cupy_operator_that_is_not_conjugated_is_found(cupy):
    matrix = cupy.asarray(M)
    A = device_operator(cupy)
    pair = (A.matvec, lambda y: matrix.T @ y)
    said = diagnosis_of(*pair, in_shape=7, dtype=complex, xp="cupy")
    assert said == NOT_CONJUGATED
    assert diagnosis_of(device_operator(cupy, lambda y: -1.0 * y)) == (
        "adjoint = -1 x the true adjoint"
    )


def test_arrays_leave_the_device_only_where_the_harness_reads_them(cupy, monkeypatch):
    """Not by a comparison, nor by `float`, nor in the operator."""
    get, callers = standin.ndarray.get, set()

    def watched(self):
        frame = inspect.currentframe().f_back
        while frame.f_code.co_filename == standin.__file__:
            callers.add(frame.f_code.co_name)
            frame = frame.f_back
        callers.add(frame.f_code.co_qualname)
        assert frame.f_code.co_filename == libraries.__file__
        return get(self)

    monkeypatch.setattr(standin.ndarray, "get", watched)
    standin.transfers.to_host = 0
    assert check_adjoint(device_operator(cupy)).passed
    assert callers == {"asnumpy", "CupyArrays.host"}
    assert standin.transfers.to_host > 100


# Imports of the harness

OTHERS = {"torch", "jax", "cupy", "cupyx", "pylops", "sigpy", "scico", "odl"}


def test_checking_a_numpy_operator_imports_no_other_library():
    code = f"""
import sys
import numpy as np
from linconv.testing import check_adjoint
assert check_adjoint(np.array([[1.0, 2.0], [3.0, 4.0]])).passed
assert not check_adjoint(np.cumsum, np.cumsum, in_shape=5).passed
try:
    check_adjoint(np.linalg.inv, np.ravel, in_shape=2)
except TypeError:
    pass
print(sorted({OTHERS!r}.intersection(sys.modules)))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
