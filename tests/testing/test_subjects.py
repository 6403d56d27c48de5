"""Operators of every library as Subjects, and their arrays behind one interface."""

import pickle
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import standin
from helpers import assert_refused, quietly
from numpy.testing import assert_array_equal

import linconv
from linconv.testing.subjects import Subject, arrays_for, as_dtype, as_subject
from linconv.testing.subjects import arrays as libraries

M = np.array([[1.0, 2, 0], [0, 3, 4]])
MC = M + 1j * np.array([[5, 0, 6], [0, 7, 0]])


@pytest.fixture
def torch():
    return quietly("torch")


@pytest.fixture
def jax():
    """JAX as people find it, with 64-bit numbers off; other tests turn them on."""
    module = quietly("jax")
    before = module.config.jax_enable_x64
    module.config.update("jax_enable_x64", False)
    yield module
    module.config.update("jax_enable_x64", before)


@pytest.fixture
def cupy():
    if "cupy" in sys.modules:
        pytest.skip("the real CuPy is here")
    with standin.installed() as module:
        yield module


@pytest.fixture(params=["numpy", "torch", "jax", "cupy"])
def xp(request):
    """An array library; for CuPy its stand-in."""
    if request.param != "numpy":
        request.getfixturevalue(request.param)
    return arrays_for(request.param)


def dense(subject: Subject, direction: str, dtype=None) -> np.ndarray:
    """Return the matrix of one direction, from products with unit vectors."""
    shape = subject.call_in_shape if direction == "forward" else subject.call_out_shape
    number = (subject.in_dtype if direction == "forward" else subject.out_dtype) or (
        dtype or subject.dtype
    )
    columns = []
    for j in range(int(np.prod(shape))):
        unit = np.zeros(int(np.prod(shape)), number)
        unit[j] = 1
        result = getattr(subject, direction)(subject.arrays.make(unit.reshape(shape)))
        assert subject.arrays.is_array(result)
        columns.append(subject.arrays.read(result).ravel())
    return np.array(columns).T


def assert_is_matrix(subject: Subject, matrix: np.ndarray, dtype=None) -> None:
    """Assert that both products are those of a matrix and of its adjoint."""
    assert_array_equal(dense(subject, "forward", dtype), matrix)
    assert_array_equal(dense(subject, "adjoint", dtype), matrix.conj().T)


def refused(match, *args, error=TypeError, **options) -> None:
    """Assert that these make no subject, and what is said."""
    with pytest.raises(error, match=match):
        as_subject(*args, **options)


# Arrays


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "int32"])
def test_every_library_gives_back_what_it_was_given_in_every_layout(xp, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    for layout in ("contiguous", *xp.layouts):
        r = xp.make(x, layout)
        assert xp.is_array(r)
        assert tuple(r.shape) == (2, 3)
        assert xp.dtype(r) == np.dtype(dtype)
        y = xp.read(r)
        assert_array_equal(y, x, strict=True)
        assert type(y) is np.ndarray
        assert y.flags.owndata
        assert y.flags.c_contiguous


def test_layouts_have_the_strides_they_are_named_for(xp):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    strides = {"strided": (6, 2), "reversed": (3, -1), "fortran": (1, 2), "read-only": (3, 1)}
    for layout in xp.layouts:
        r = xp.make(x, layout)
        steps = r.stride() if xp.name == "torch" else tuple(s // 4 for s in r.strides)
        assert steps == strides[layout], layout


def test_the_gaps_of_a_strided_array_hold_nan_or_the_largest_integer():
    numpy = arrays_for("numpy")
    gaps = {"float32": np.nan, "complex128": np.nan, "int8": 127, "?": True}
    for dtype, gap in gaps.items():
        r = numpy.make(np.zeros(3, dtype), "strided")
        buffer = np.lib.stride_tricks.as_strided(r, (6,), (r.itemsize,))
        assert_array_equal(buffer, np.array([0, gap] * 3).astype(dtype))


def test_numpy_arrays_start_at_a_multiple_of_64_bytes_and_are_fresh():
    numpy = arrays_for("numpy")
    x = np.arange(5.0)
    for _ in range(8):
        r = numpy.make(x)
        assert r.ctypes.data % 64 == 0
        assert not np.shares_memory(r, x)


def test_foreign_byte_order_becomes_native(xp):
    r = xp.make(np.arange(3).astype(">f4"))
    assert xp.dtype(r) == np.dtype(np.float32)
    assert xp.dtype(r).isnative
    assert_array_equal(xp.read(r), [0, 1, 2])


def test_reading_is_a_copy_that_later_writes_do_not_reach(xp):
    r = xp.make(np.zeros(3, np.float32))
    before = xp.read(r)
    assert xp.overwrite(r, np.array([1.0, 2, 3])) is (xp.name != "jax")
    assert_array_equal(before, [0, 0, 0])
    assert_array_equal(xp.read(r), [1, 2, 3] if xp.name != "jax" else [0, 0, 0])


def test_overwriting_takes_complex_values_and_nan_without_a_warning(xp):
    real, whole = xp.make(np.zeros(1, np.float32)), xp.make(np.zeros(1, np.int32))
    assert xp.overwrite(real, np.array([2 + 3j])) is (xp.name != "jax")
    assert xp.overwrite(whole, np.array([np.nan])) is (xp.name != "jax")
    assert xp.read(real)[0] == (2 if xp.name != "jax" else 0)


def test_nothing_is_written_where_writing_cannot_be(torch):
    numpy = arrays_for("numpy")
    one = np.ones(1)
    assert not numpy.overwrite(numpy.make(np.zeros(1), "read-only"), one)
    repeated = np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,), writeable=True)
    assert not numpy.overwrite(repeated, np.ones(4))
    tensors = arrays_for(torch)
    assert not tensors.overwrite(torch.zeros(1).expand(4), np.ones(4))
    assert not tensors.overwrite([0.0], one)


def test_sharing_is_seen_through_views_and_not_between_interleaved_ones(xp):
    r = xp.make(np.zeros(8, np.float32))
    assert xp.shares_memory(r, r) is (xp.name != "jax")
    assert xp.shares_memory(r, r[2:4]) is (xp.name != "jax")
    assert not xp.shares_memory(r[::2], r[1::2])
    assert not xp.shares_memory(r, xp.make(np.zeros(8, np.float32)))
    assert not xp.shares_memory(r[:0], r)


def test_sharing_that_is_too_hard_to_tell_counts_as_sharing(monkeypatch):
    monkeypatch.setattr(libraries, "_OVERLAP_WORK", 1)
    # shares_memory would have to solve 12345 a + 3 b = 7 c + ... within bounds
    a = np.lib.stride_tricks.as_strided(np.zeros(90000, "i1"), (7, 11, 13), (4999, 1201, 307))
    assert arrays_for("numpy").shares_memory(a, a[1:, 1:, 1:].view())


def test_lists_scalars_matrices_and_masked_arrays_are_no_arrays(xp):
    matrix = np.ones((1, 1)).view(np.matrix)
    for value in ([1.0], 1.0, np.float64(1), np.ma.array([1.0]), matrix, None):
        assert not xp.is_array(value)


def test_numpy_and_jax_accept_each_others_arrays(jax):
    numpy, other = arrays_for("numpy"), arrays_for(jax)
    x = jax.numpy.zeros(3)
    assert numpy.is_array(x)
    assert other.is_array(np.zeros(3))
    assert_array_equal(numpy.read(x), np.zeros(3))
    assert not numpy.overwrite(x, np.ones(3))
    assert not other.shares_memory(x, x)


def test_torch_reads_conjugated_negated_and_differentiable_tensors(torch):
    tensors = arrays_for("torch")
    z = torch.tensor([1 + 2j])
    assert_array_equal(tensors.read(z.conj()), [1 - 2j])
    assert_array_equal(tensors.read(z.conj().imag), [-2])
    assert tensors.shares_memory(z, z.conj())
    assert_array_equal(tensors.read(torch.ones(1, requires_grad=True)), [1])
    assert not tensors.is_array(np.zeros(1))
    assert not tensors.is_array(torch.eye(2).to_sparse())


def test_cupy_is_read_by_its_own_function(cupy):
    arrays = arrays_for("cupy")
    r = arrays.make(np.arange(3.0))
    standin.transfers.to_host = 0
    arrays.dtype(r), arrays.shares_memory(r, r)
    assert standin.transfers.to_host == 0
    arrays.read(r)
    assert standin.transfers.to_host == 1
    assert not arrays.is_array(np.zeros(3))


def test_libraries_are_found_from_arrays_dtypes_modules_and_names(torch, jax):
    jnp = jax.numpy
    for what in (np, np.zeros(1), np.float32, np.dtype("f8"), "float32", float, "numpy"):
        assert arrays_for(what).name == "numpy"
    for what in (torch, torch.zeros(1), torch.nn.Parameter(torch.zeros(1)), torch.float32):
        assert arrays_for(what).name == "torch"
    for what in (jax, jnp, jnp.zeros(1), jnp.float32, "jax", "jax.numpy"):
        assert arrays_for(what).name == "jax"
    assert repr(arrays_for("torch:meta")) == "TorchArrays('meta')"
    assert arrays_for(torch.zeros(1)).device == "cpu"
    arrays = arrays_for("jax")
    assert arrays_for(arrays) is arrays
    assert repr(arrays) == "JaxArrays()"


def test_unknown_libraries_are_refused():
    with pytest.raises(TypeError, match=r"name of one of \('numpy', .* got 'pandas'"):
        arrays_for("pandas")
    with pytest.raises(TypeError, match=r"expected an array, dtype, module or name.* got <m"):
        arrays_for(sys)


def test_a_library_that_nothing_imported_is_refused(monkeypatch):
    for name in ("torch", "jax", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=f"nothing has imported {name} yet: import it"):
            arrays_for(name)


def test_layouts_that_a_library_lacks_are_refused(xp):
    x = np.zeros(3, np.float32)
    known = f"layout of {xp.name} arrays must be one of .* 'diagonal'"
    with pytest.raises(ValueError, match=known):
        xp.make(x, "diagonal")
    if "fortran" in xp.layouts:
        with pytest.raises(ValueError, match=r"needs a 2-d array, got shape \(3,\)"):
            xp.make(x, "fortran")
    assert ("reversed" in xp.layouts) is (xp.name in ("numpy", "cupy"))


def test_long_doubles_are_numpys_alone(xp):
    x = np.ones(2, np.longdouble)
    if xp.name == "numpy":
        assert_array_equal(xp.read(xp.make(x)), x, strict=True)
    else:
        lacks = f"{xp.name} has no (float|longdouble).*'float16'"
        with pytest.raises(TypeError, match=lacks):
            xp.make(x)


def test_jax_without_64_bits_says_how_to_get_them(jax):
    assert not jax.config.jax_enable_x64
    arrays = arrays_for("jax")
    assert_refused(
        (ValueError, r"has 64-bit numbers off: .*_x64', True\), or dtype='fl",
         lambda: arrays.make(np.zeros(3))),
        (ValueError, "or dtype='complex64'", lambda: arrays.make(np.zeros(3, complex))),
        (ValueError, "or dtype='int32'", lambda: arrays.make(np.zeros(3, np.int64))),
    )  # fmt: skip
    jax.config.update("jax_enable_x64", True)  # until the fixture turns it off
    assert arrays.dtype(arrays.make(np.zeros(3))) == np.float64


def test_bfloat16_and_objects_are_refused_with_what_is_accepted(torch, jax):
    tiny = torch.bfloat16, jax.numpy.bfloat16, jax.numpy.float8_e5m2
    for dtype in (*tiny, object, "U3", "x"):
        with pytest.raises(TypeError, match=r"integer dtype or one of .'float16', 'float32'"):
            as_dtype(dtype)
    with pytest.raises(TypeError, match=r"got torch.bfloat16|got bfloat16"):
        arrays_for("torch").dtype(torch.zeros(1, dtype=torch.bfloat16))
    assert as_dtype(torch.complex64) == np.complex64
    assert as_dtype(jax.numpy.float32) == np.float32


# linconv, SciPy, matrices, objects


def test_a_convolution_brings_shapes_matrix_and_geometry():
    A = linconv.Conv([[1.0, 2], [3, 4]], (3, 4))
    subject = as_subject(A)
    assert subject.name.startswith("Conv(float64[2, 2], (3, 4) -> (2, 3)")
    assert (subject.in_shape, subject.out_shape) == ((3, 4), (2, 3))
    assert (subject.call_in_shape, subject.call_out_shape) == ((12,), (6,))
    assert subject.dtype == np.float64
    assert (subject.forward_name, subject.adjoint_name) == ("matvec", "rmatvec")
    assert subject.geometry == A.geometry
    assert (subject.in_dtype, subject.weights, subject.real_linear) == (None, None, False)
    assert_is_matrix(subject, A.toarray())
    assert_array_equal(subject.matrix().toarray(), A.toarray())
    assert_array_equal(subject.matmat(np.eye(12)), A.toarray())
    assert_array_equal(subject.rmatmat(np.eye(6)), A.toarray().T)


def test_a_view_of_a_convolution_has_its_geometry():
    A = linconv.Conv([1j, 2], 4)
    for view in (A.H, A.T, A.conj()):
        subject = as_subject(view)
        assert subject.geometry == A.geometry
        assert_is_matrix(subject, view.toarray())
    assert as_subject(A.H).name.endswith(").H")


def test_a_filter_operator_has_a_geometry_that_is_not_its_own():
    A = linconv.FilterConv(np.arange(5.0), 2)
    assert A.geometry is not None
    assert as_subject(A).geometry is None


def test_the_matrix_is_known_where_every_leaf_knows_its_own():
    A, eye = linconv.Conv([1.0, 2], 3, padding="same"), linconv.Identity(3)
    custom = scipy.sparse.linalg.LinearOperator((3, 3), np.array, np.array, dtype=float)
    for known in (2 * A + eye @ A.H, A**2, -A.T, linconv.FilterConv(np.ones(3), 2)):
        assert_array_equal(as_subject(known).matrix().toarray(), known.toarray())
    for unknown in (A + custom, 2 * (eye @ linconv.aslinearoperator(custom)).H):
        assert as_subject(unknown).matrix is None


def test_a_composite_is_named_by_its_first_line():
    A = linconv.Conv([1.0, 2], 3)
    assert as_subject(2 * A.H @ A).name == "Product(float64, (3,) -> (3,), ...)"
    assert as_subject((A.H @ (2 * A)).T).name == "Product(float64, (3,) -> (3,), ...).T"


@pytest.mark.parametrize("form", [np.array, np.ndarray.tolist, scipy.sparse.csc_array])
def test_matrices_become_operators_that_know_their_matrix(form):
    subject = as_subject(form(MC))
    assert_is_matrix(subject, MC)
    assert_array_equal(subject.matrix().toarray(), MC)
    assert subject.dtype == np.complex128


def test_scipys_operators_are_used_as_they_are():
    A = scipy.sparse.linalg.LinearOperator(
        (2, 3), lambda x: MC @ x, lambda y: MC.conj().T @ y, dtype=complex
    )
    subject = as_subject(A, in_shape=(3, 1))
    assert_is_matrix(subject, MC)
    assert subject.name == "<2x3 _CustomLinearOperator with dtype=complex128>"
    assert subject.in_shape == (3, 1)
    assert subject.call_in_shape == (3,)
    assert subject.matrix is None
    assert subject.portable is A
    assert_is_matrix(as_subject(A.H), MC.conj().T)
    assert_is_matrix(as_subject(2 * A), 2 * MC)


def scipy_operator(name, **more):
    kind = type(name, (scipy.sparse.linalg.LinearOperator,), more)
    return kind(np.dtype(float), (2, 2))


def itself(self, x):
    return x


def test_a_scipy_operator_without_a_product_is_named():
    Base = scipy.sparse.linalg.LinearOperator
    half = Base((2, 2), np.array, dtype=float)
    refused("_CustomLinearOperator with dtype=float64> has no rmatvec", half)
    refused("has no matvec", half.H)
    whole = Base((2, 2), np.array, np.array, dtype=float)
    refused(r"a part of <2x2 _SumLin.*, has no rmatvec", whole + 2 * half)
    half = scipy_operator("Half", _matvec=itself)
    refused(r"<2x2 Half with .* has no rmatvec.* implement _rmatvec", half)
    for name in ("_rmatvec", "_rmatmat", "rmatvec", "_adjoint"):
        as_subject(scipy_operator("Whole", _matvec=itself, **{name: itself}))
    late = scipy_operator("Late", _matvec=itself)
    late._rmatvec = late._matvec
    assert_is_matrix(as_subject(late), np.eye(2))


def test_a_linconv_operator_without_its_adjoint_is_named():
    class Half(linconv.LinearOperator):
        def _matmat(self, X):
            return X

    half = Half(float, 2, 2)
    refused(r"^Half\(float64, .2,. -> .2,.\) has no rmatvec.* _rmatmat", half)
    part = r"a part of Product\(.*, has no rmatvec, which matvec"
    refused(part, linconv.Identity(2) @ half.H)
    foreign = linconv.aslinearoperator(scipy_operator("Other", _matvec=itself))
    refused(r"<2x2 Other .*, a part of aslinearoperator\(float64", foreign)


def blur(x):
    return M @ x


def blur_adjoint(y):
    return M.T @ y


class Blur:
    shape = (2, 3)

    def matvec(self, x):
        return blur(x)

    def rmatvec(self, y):
        return blur_adjoint(y)


def test_objects_with_the_protocol_need_no_class():
    subject = as_subject(Blur())
    assert subject.name == "Blur of shape (2, 3)"
    assert subject.dtype is None
    assert (subject.matmat, subject.rmatmat, subject.matrix) == (None, None, None)
    assert_is_matrix(subject, M, float)
    assert as_subject(Blur(), dtype="float32").dtype == np.float32


def test_objects_may_know_their_matrix_and_their_dtype():
    class Known(Blur):
        dtype = "complex64"

        def tosparse(self):
            return scipy.sparse.coo_array(M)

    subject = as_subject(Known())
    assert_array_equal(subject.matrix().toarray(), M)
    assert subject.dtype == np.complex64


def test_objects_that_hide_their_repr_or_talk_too_much_are_named_still():
    class Silent(Blur):
        def __repr__(self):
            raise AttributeError("nothing")

    class Talker(Blur):
        def __repr__(self):
            return "x" * 300

    assert as_subject(Silent()).name == "Silent of shape (2, 3)"
    assert as_subject(Talker()).name == "x" * 97 + "..."


def test_objects_of_another_library_are_given_its_arrays(torch):
    matrix = torch.tensor(MC)

    class Tensors:
        shape = (2, 3)
        dtype = torch.complex128

        def matvec(self, x):
            return matrix @ x

        def rmatvec(self, y):
            return matrix.mH @ y

    subject = as_subject(Tensors(), xp="torch")
    assert subject.dtype == np.complex128
    assert_is_matrix(subject, MC)


def test_incomplete_objects_are_refused():
    class Half:
        shape = (2, 2)
        matvec = itself

    refused(r"Half of shape \(2, 2\) has matvec but no rmatvec", Half())
    Half.rmatvec = None
    refused(r"Half of shape \(2, 2\) has matvec but no rmatvec", Half())
    Half.rmatvec, Half.shape = itself, (2,)
    refused(r"must have shape \(m, n\), got \(2,\)", Half())
    Half.shape = (0, 2)
    refused(r"must have sizes >= 1, got shape \(0, 2\)", Half(), error=ValueError)


def test_what_is_no_operator_is_refused():
    for value in (3.0, None, "numpy", {"matvec": 1}):
        refused(r"expected an operator of linconv, .* got \w+$", value)
    refused("a function needs its adjoint and in_shape", np.fft.fft)


def test_labels_must_have_the_operators_sizes():
    wrong = r"in_shape \(2, 2\) has 4 entries, expected 3: Matrix"
    refused(wrong, M, in_shape=(2, 2), error=ValueError)
    refused(r"out_shape \(3,\) has 3 entries, expected 2", M, out_shape=3, error=ValueError)
    subject = as_subject(M, in_shape=(3, 1), out_shape=(1, 2))
    assert (subject.in_shape, subject.out_shape) == ((3, 1), (1, 2))
    assert as_subject(subject, in_shape=3).in_shape == (3,)


def test_an_operator_of_numpy_arrays_is_given_no_others(jax):
    refused(r"takes numpy arrays, got xp='jax'", M, xp=jax, error=ValueError)


def test_a_pickled_operator_is_wrapped_again_with_its_labels():
    subject = as_subject(linconv.Conv([1.0, 2], 4), in_shape=(2, 2))
    again = subject.rewrap(pickle.loads(pickle.dumps(subject.portable)))
    assert again.in_shape == (2, 2)
    assert_is_matrix(again, subject.matrix().toarray())
    assert as_subject(np.ravel, np.ravel, in_shape=2).portable is None


# Pairs of functions


def test_a_pair_of_functions_finds_its_out_shape_with_one_call():
    calls = []
    subject = as_subject(lambda x: calls.append(x) or blur(x), blur_adjoint, in_shape=3)
    assert (subject.call_in_shape, subject.call_out_shape) == ((3,), (2,))
    assert len(calls) == 1
    assert not calls[0].any()
    assert (subject.forward_name, subject.adjoint_name) == ("forward", "adjoint")
    assert subject.dtype is None
    assert (subject.portable, subject.rewrap) == (None, None)
    assert_is_matrix(subject, M, float)


def test_pairs_are_named_by_their_functions():
    assert as_subject(blur, blur_adjoint, in_shape=3).name == "the pair blur, blur_adjoint"
    pair = as_subject(partial(np.multiply, 2), Blur().rmatvec, in_shape=3)
    assert pair.name == "the pair multiply, rmatvec"


def test_a_pair_on_shaped_arrays_keeps_its_shapes():
    subject = as_subject(np.transpose, np.transpose, in_shape=(2, 3), dtype="float32")
    assert (subject.call_in_shape, subject.call_out_shape) == ((2, 3), (3, 2))
    assert subject.dtype == np.float32


def test_a_pair_whose_library_dtype_and_shapes_are_given_is_not_called(torch):
    def never(x):
        raise AssertionError

    subject = as_subject(never, never, in_shape=3, out_shape=2, dtype="float32", xp="numpy")
    assert (subject.out_shape, subject.arrays.name) == ((2,), "numpy")
    subject = as_subject(never, never, in_shape=3, out_shape=2, dtype=torch.float32)
    assert subject.arrays.name == "torch"


def test_a_torch_pair_is_found_by_its_refusal_of_numpy(torch):
    matrix = torch.tensor(M, dtype=torch.float32)
    functions = (lambda x: torch.mv(matrix, x), lambda y: torch.mv(matrix.T, y))
    subject = as_subject(*functions, in_shape=3)
    assert subject.arrays.name == "torch"
    assert subject.dtype == np.float32  # it refuses float64
    assert_is_matrix(subject, M)
    assert as_subject(*functions, in_shape=3, xp=torch, out_shape=2).dtype == np.float32
    said = r"accepts no zeros of shape \(3,\); xp= and dtype= must .*\n.*torch f"
    refused(said, *functions, in_shape=3, dtype=torch.float64)


def test_a_pair_that_returns_another_librarys_arrays_is_given_them(jax):
    matrix = jax.numpy.asarray(M, "float32")
    functions = (lambda x: matrix @ x, lambda y: matrix.T @ y)
    for options in ({}, {"xp": "jax"}, {"dtype": jax.numpy.float32}, {"dtype": "float32"}):
        subject = as_subject(*functions, in_shape=3, **options)
        assert subject.arrays.name == "jax"
        assert subject.dtype == np.float32
        assert_is_matrix(subject, M)
    wide = {"in_shape": 3, "dtype": "float64"}
    refused("JAX has 64-bit numbers off", *functions, **wide, error=ValueError)


def test_a_pair_that_takes_numpy_arrays_and_returns_tensors_stays_with_numpy(torch):
    subject = as_subject(torch.from_numpy, torch.from_numpy, in_shape=3, out_shape=3)
    assert subject.arrays.name == "numpy"


def test_a_cupy_pair_is_found_among_all_libraries(cupy):
    matrix = cupy.asarray(M)
    subject = as_subject(lambda x: matrix @ x, lambda y: matrix.T @ y, in_shape=3)
    assert subject.arrays.name == "cupy"
    assert_is_matrix(subject, M, float)


def test_a_pair_that_accepts_nothing_shows_every_refusal(jax):
    def broken(x):
        raise LookupError(f"no {type(x).__name__}\nand more")

    with pytest.raises(TypeError, match=r"numpy float64: LookupError: no ndarray\n") as info:
        as_subject(broken, broken, in_shape=3)
    assert "jax float32: LookupError: no ArrayImpl" in str(info.value)
    assert "and more" not in str(info.value)


def test_pairs_with_missing_parts_are_refused():
    refused("a pair of functions needs in_shape", blur, blur_adjoint)
    refused("adjoint must be a function, got ndarray", blur, M, in_shape=3)
    lists = np.ndarray.tolist, blur_adjoint
    refused("forward returned a list, expected an array of numpy", *lists, in_shape=3)
    assert as_subject(*lists, in_shape=3, out_shape=2).out_shape == (2,)


# Other libraries


def test_a_pylops_operator_brings_its_dims():
    pylops = quietly("pylops")
    A = pylops.FirstDerivative((3, 2), axis=0, kind="forward")
    subject = as_subject(A)
    assert subject.name == "FirstDerivative of PyLops"
    assert (subject.in_shape, subject.call_in_shape) == ((3, 2), (6,))
    assert all(type(size) is int for size in subject.in_shape)
    assert subject.dtype == np.float64
    assert not subject.real_linear
    assert subject.matrix is None  # its tosparse multiplies
    difference = np.array([[-1.0, 1, 0], [0, -1, 1], [0, 0, 0]])
    assert_is_matrix(subject, np.kron(difference, np.eye(2)))
    assert_array_equal(subject.matmat(np.eye(6)), np.kron(difference, np.eye(2)))
    assert as_subject(pylops.Real(3)).real_linear


def test_a_pylops_operator_without_adjoint_is_named():
    pylops = quietly("pylops")

    class Half(pylops.LinearOperator):
        _matvec = itself

    half = Half(dtype=float, shape=(2, 2))
    refused(r"<2x2 Half with .* has no rmatvec", half)
    Half._rmatvec = itself
    assert as_subject(half).name == "Half (PyLops)"
    assert_is_matrix(as_subject(2 * half), 2 * np.eye(2))


def test_a_sigpy_operator_takes_shaped_arrays():
    sigpy = quietly("sigpy")
    A = sigpy.linop.FiniteDifference((3,)) * sigpy.linop.Reshape((3,), (1, 3))
    subject = as_subject(A, dtype=complex)
    assert subject.name == "Compose of SigPy"
    assert (subject.call_in_shape, subject.call_out_shape) == ((1, 3), (1, 3))
    assert as_subject(A).dtype is None
    assert (subject.forward_name, subject.adjoint_name) == ("forward", "H")
    assert_is_matrix(subject, np.array([[1.0, 0, -1], [-1, 1, 0], [0, -1, 1]]))


def test_a_sigpy_operator_without_adjoint_is_named():
    sigpy = quietly("sigpy")

    class Half(sigpy.linop.Linop):
        _apply = itself

    refused(r"Half \(SigPy\) has no adjoint: .H raised NotImpl", Half((2,), (2,)))


def test_a_scico_operator_has_two_dtypes_and_jax_arrays():
    quietly("scico")
    linop, snp = quietly("scico.linop"), quietly("scico.numpy")
    subject = as_subject(linop.MatrixOperator(snp.array(M, dtype="float32")))
    assert subject.name == "MatrixOperator of SCICO"
    assert subject.arrays.name == "jax"
    assert (subject.in_dtype, subject.out_dtype) == (np.float32, np.float32)
    assert (subject.forward_name, subject.adjoint_name) == ("forward", "adj")
    assert_is_matrix(subject, M)
    difference = as_subject(linop.FiniteDifference((2, 2), append=0))
    assert (difference.in_shape, difference.out_shape) == ((2, 2), (2, 2, 2))
    maps = "maps float32 to float32, got dtype='float64': leave"
    refused(maps, linop.Identity((3,)), dtype=float, error=ValueError)


def test_a_scico_operator_from_real_to_complex_is_real_linear_only():
    quietly("scico")
    linop = quietly("scico.linop")
    A = linop.LinearOperator(
        (2,), eval_fn=lambda x: x * (1 + 1j), input_dtype=np.float32, adj_fn=lambda y: y.real
    )
    subject = as_subject(A)
    assert (subject.in_dtype, subject.out_dtype) == (np.float32, np.complex64)
    assert (subject.dtype, subject.real_linear) == (np.complex64, True)
    assert not as_subject(linop.DFT((4,))).real_linear


def test_a_scico_operator_of_blocks_is_refused():
    quietly("scico")
    linop = quietly("scico.linop")
    A = linop.Identity(((2,), (3,)))
    refused("expected plain shapes, got block arrays; test its", A)


def test_an_odl_operator_brings_its_weights():
    odl = quietly("odl")
    X, Y = odl.rn(3, weighting=2.0), odl.rn(2, weighting=np.array([1.0, 4]))
    subject = as_subject(odl.MatrixOperator(M, domain=X, range=Y))
    assert subject.name == "MatrixOperator of ODL"
    assert subject.arrays.name == "numpy"
    assert (subject.in_dtype, subject.out_dtype) == (np.float64, np.float64)
    assert subject.weights[0] == 2.0
    assert_array_equal(subject.weights[1], [1, 4])
    assert_array_equal(dense(subject, "forward"), M)
    assert as_subject(odl.IdentityOperator(odl.cn(3))).weights is None
    assert_is_matrix(as_subject(1j * odl.IdentityOperator(odl.cn(3))), 1j * np.eye(3))
    maps, identity = "maps float64 to float64, got dtype='float32'", odl.IdentityOperator
    refused(maps, identity(odl.rn(3)), dtype="float32", error=ValueError)


def test_the_weights_of_an_odl_operator_are_those_of_its_inner_products():
    odl = quietly("odl")
    plane = odl.uniform_discr([0, 0], [1, 1], (2, 3))
    part = odl.rn(2, weighting=np.array([1.0, 3]))
    spaces = [
        plane,
        plane**2,
        odl.ProductSpace(plane, 2, weighting=[1.0, 2.0]),
        odl.ProductSpace(part, 3, weighting=[1.0, 2.0, 5.0]),
        odl.ProductSpace(plane**2, 2, weighting=3.0),
        odl.cn(3, weighting=4.0),
    ]
    rng = np.random.default_rng(1307)
    for space in spaces:
        subject = as_subject(odl.IdentityOperator(space))
        weight, other = subject.weights
        assert subject.call_in_shape == space.shape
        u, v = (rng.integers(-9, 9, space.shape).astype(float) for _ in range(2))
        expected = space.element(u).inner(space.element(v))
        assert np.sum(weight * u * v) == pytest.approx(expected, rel=1e-14)
        assert_array_equal(weight, other)


def test_an_odl_functional_maps_to_one_number():
    odl = quietly("odl")
    X = odl.rn(2, weighting=2.0)
    subject = as_subject(odl.InnerProductOperator(X.element(np.array([1.0, 3]))))
    assert (subject.call_in_shape, subject.call_out_shape) == ((2,), (1,))
    assert_array_equal(dense(subject, "forward"), [[2, 6]])
    assert_array_equal(dense(subject, "adjoint"), [[1], [3]])
    assert subject.weights == (2.0, 1.0)


def test_an_odl_operator_between_real_and_complex_is_real_linear_only():
    odl = quietly("odl")
    assert as_subject(odl.RealPart(odl.cn(3))).real_linear
    assert not as_subject(odl.RealPart(odl.rn(3))).real_linear


def test_odl_operators_that_cannot_be_tested_are_refused():
    odl = quietly("odl")

    class Half(odl.Operator):
        def __init__(self):
            super().__init__(odl.rn(2), odl.rn(2), linear=True)

        _call = itself

    refused(r"Half \(ODL\) has no adjoint: .adjoint raised OpNot", Half())
    narrow = odl.MatrixOperator(M, domain=odl.rn(3, dtype="float32"), range=odl.rn(2))
    refused(r".adjoint raised ValueError\(.*cannot be safely cast", narrow)
    product = odl.IdentityOperator(odl.ProductSpace(odl.rn(2), odl.rn(3)))
    refused("a product of different spaces: expected powers of one", product)
    for space in (odl.rn(3, inner=lambda u, v: 1.0), odl.rn(3, exponent=1)):
        A = odl.IdentityOperator(space)
        refused("expected constant or array weights and exponent 2", A)


def test_cupy_matrices_and_operators_run_on_the_device(cupy):
    linalg = sys.modules["cupyx.scipy.sparse.linalg"]
    sparse = sys.modules["cupyx.scipy.sparse"].csr_matrix(MC)
    for A, name in ((sparse, "csr_matrix"), (cupy.asarray(MC), "ndarray")):
        subject = as_subject(A)
        assert subject.name == f"{name} of CuPy"
        assert subject.arrays.name == "cupy"
        assert_is_matrix(subject, MC)
        assert_array_equal(subject.matrix().toarray(), MC)
    operator = linalg.aslinearoperator(sparse)
    standin.transfers.to_host = 0
    assert as_subject(operator).matrix is None
    assert standin.transfers.to_host == 0
    assert_is_matrix(as_subject(operator), MC)


def test_cupy_operators_without_adjoint_and_flat_arrays_are_refused(cupy):
    linalg = sys.modules["cupyx.scipy.sparse.linalg"]
    half = linalg.LinearOperator((2, 2), lambda x: x, dtype=float)
    refused(r"<2x2 _CustomLin.* has no rmatvec", half)
    refused(r"a matrix must be 2-d, got shape \(3,\)", cupy.zeros(3), error=ValueError)


# The stand-in


def test_the_stand_in_is_as_strict_as_cupy(cupy):
    x = cupy.asarray(np.arange(3.0))
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
        np.asarray(x)
    for mix in (lambda: x + np.ones(3), lambda: np.ones(3) * x, lambda: x @ np.ones(3)):
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
            mix()
    with pytest.raises(TypeError, match="Unsupported type"):
        x[:] = np.ones(3)
    with pytest.raises(TypeError, match="Unsupported dtype"):
        cupy.asarray(np.ones(3, np.longdouble))
    x[1:] = 2 * x[1:] - 1.0
    assert_array_equal(cupy.asnumpy((x.conj() @ x).reshape(1)), [10])
    assert float(x.sum()) == 4
    with pytest.raises(RuntimeError, match=r"cannot replace .'cupy'"), standin.installed():
        pass


def test_the_stand_in_goes_away_again():
    if "cupy" not in sys.modules:
        with standin.installed():
            assert "cupyx.scipy.sparse.linalg" in sys.modules
        assert not [name for name in sys.modules if name.startswith("cupy")]
