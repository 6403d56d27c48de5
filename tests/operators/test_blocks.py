"""Blocks, Kronecker products, restrictions, slices, parts, Hermitian structure, HTML."""

import html.parser
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import zoo
from helpers import nbytes, peak

import linconv
from linconv.operators import Composite
from linconv.testing import assert_adjoint


def values(shape, dtype="complex128", seed=6101):
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, shape)
    return (x + 1j * rng.integers(-9, 10, shape) if "complex" in dtype else x).astype(dtype)


def test_stacks_of_one_shape_get_a_new_first_axis_others_are_flat():
    A, B = (
        linconv.Conv(np.ones((2, 2)), (4, 5)),
        linconv.Conv(np.ones((2, 2)), (4, 5), padding=1),
    )
    assert linconv.vstack([A, 2 * A, -A]).out_shape == (3, 3, 4)
    assert linconv.vstack([A, B]).out_shape == (3 * 4 + 5 * 6,)
    assert linconv.vstack([A, B]).in_shape == (4, 5)
    assert linconv.vstack([A]).out_shape == (3, 4)
    assert linconv.hstack([A.T, A.T]).in_shape == (2, 3, 4)
    assert linconv.block_diag([A, A]).in_shape == (2, 4, 5)
    assert linconv.block_diag([A, B]).out_shape == (42,)
    x = values((4, 5), "float64")
    stacked = linconv.vstack([A, 2 * A])(x)
    np.testing.assert_array_equal(stacked, [A(x), 2 * A(x)])


def test_a_shaped_operator_lends_its_shape_to_flat_ones_beside_it():
    A = linconv.Conv(np.ones((2, 2)), (4, 5), padding=[(1, 0), (1, 0)])
    assert linconv.vstack([np.eye(20), A]).in_shape == (4, 5)
    assert linconv.block([[np.eye(20), None], [None, A]]).in_shape == (40,)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_blocks_are_numpys_blocks(dtype):
    A, B, C, D = (values(s, dtype, 7 + sum(s)) for s in ((2, 3), (2, 4), (5, 3), (5, 4)))
    block = linconv.block([[A, B], [C, D]])
    dense = np.block([[A, B], [C, D]])
    np.testing.assert_array_equal(block.toarray(), dense)
    np.testing.assert_array_equal(block.T.toarray(), dense.T)
    np.testing.assert_array_equal(block.H.toarray(), dense.conj().T)
    x, y = values((7, 2), dtype), values((7, 2), dtype)
    np.testing.assert_array_equal(block @ x, dense @ x)
    np.testing.assert_array_equal(block.H @ y, dense.conj().T @ y)
    assert_adjoint(block)
    diagonal = linconv.block_diag([A, D])
    expected = np.block([[A, np.zeros((2, 4))], [np.zeros((5, 3)), D]])
    np.testing.assert_array_equal(diagonal.toarray(), expected)


def test_blocks_of_several_dtypes_have_their_common_one():
    block = linconv.vstack([np.eye(2, dtype="float32"), 1j * np.eye(2)])
    assert block.dtype == np.complex128
    matrix = block.tosparse()
    assert (matrix.dtype, matrix.indices.dtype) == (np.complex128, np.int32)
    assert matrix.has_canonical_format
    assert (block @ np.ones(2, "float32")).dtype == np.complex128


def test_a_gap_never_spreads_a_nan():
    block = linconv.block_diag([[[np.nan]], [[2.0]]])
    np.testing.assert_array_equal(block @ [1.0, 1.0], [np.nan, 2.0])


def test_kronecker_products_are_numpys_and_act_on_axes():
    A, B, C = values((3, 2)), values((2, 5), seed=8), values((4, 3), seed=9)
    kron = linconv.kron(A, B, C)
    np.testing.assert_array_equal(kron.toarray(), np.kron(A, np.kron(B, C)))
    assert (kron.in_shape, kron.out_shape) == ((2, 5, 3), (3, 2, 4))
    x = values((7, 2, 5, 3), seed=10)
    np.testing.assert_array_equal(kron(x), np.einsum("abcd,ib,jc,kd->aijk", x, A, B, C))
    assert_adjoint(kron)
    assert len(linconv.kron(kron, A).operands) == 4
    assert kron._nnz() == np.count_nonzero(A) * np.count_nonzero(B) * np.count_nonzero(C)


def test_a_two_dimensional_convolution_is_the_kronecker_product_of_two():
    rows, columns = np.array([1, 2, 4]), np.array([3, -1])
    A = linconv.Conv(np.outer(rows, columns), (6, 5), boundary="reflect", padding=1)
    parts = [
        linconv.Conv(k, n, boundary="reflect", padding=1) for k, n in ((rows, 6), (columns, 5))
    ]
    np.testing.assert_array_equal(linconv.kron(*parts).toarray(), A.toarray())


def test_kronecker_matrices_are_made_in_pieces(monkeypatch):
    A, B = linconv.Conv([1, 2, 3], 40, padding=1), linconv.Conv([4, 5], 9)
    expected = scipy.sparse.kron(A.tosparse(), B.tosparse()).toarray()
    for piece in (1, 60, 1 << 20):
        monkeypatch.setattr("linconv.operators.blocks._PIECE", piece)
        matrix = linconv.kron(A, B).tosparse()
        np.testing.assert_array_equal(matrix.toarray(), expected)
        assert matrix.indices.dtype == np.int32


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: linconv.vstack([]), r"a grid, rows of one length, at least 1: got \[\]"),
        (lambda: linconv.hstack([]), r"a grid, rows of one length, at least 1: got \[0\]"),
        (lambda: linconv.block([[[[1]]], []]), r"rows of one length, at least 1: got \[1, 0\]"),
        (lambda: linconv.vstack([np.eye(2), np.eye(3)]), r"column 0 of blocks must have as many columns: got \[2, 3\]"),
        (lambda: linconv.hstack([np.eye(2), np.eye(3)]), r"row 0 of blocks must have as many rows: got \[2, 3\]"),
        (lambda: linconv.block([[np.eye(2), None], [np.eye(2), None]]), "column 1 of blocks holds no operator, so its size is not known"),
        (lambda: linconv.kron(), "needs at least one operator, got none"),
        (lambda: linconv.Restriction(np.ones((2, 2), bool), (4,)), r"a mask needs the shape of the arrays, \(4,\), got \(2, 2\)"),
        (lambda: linconv.Restriction(slice(3)), r"in_shape is needed: slice"),
        (lambda: linconv.Restriction(np.zeros(3, bool)), r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Matrix(np.eye(3))[5:], r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Matrix(np.eye(3))[[]], r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Matrix(np.eye(3))[:, []], r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Matrix(np.eye(3))[np.array([], int)], r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Restriction([], 3), r"nothing is kept of arrays of shape \(3,\)"),
        (lambda: linconv.Restriction([]), r"in_shape is needed: array\(\[\], dtype=int64\)"),
    ],
)  # fmt: skip
def test_errors_say_what_was_expected(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("stack", ["vstack", "hstack", "block_diag", "block"])
def test_one_operator_is_not_taken_apart_where_a_list_is_expected(stack):
    A = linconv.Conv([1.0, 2.0], 3)
    make = getattr(linconv, stack)
    form = re.escape("block([[A, B], [C, None]])" if stack == "block" else f"{stack}([A, B])")
    theirs = scipy.sparse.linalg.aslinearoperator(np.eye(2))
    for one in (A, A.H, theirs, A.tosparse(), np.eye(2), 3, None):
        with pytest.raises(
            TypeError,
            match=f"expected a list of operators.* {form}, got {type(one).__name__}$",
        ):
            make(one)
    if stack == "block":
        with pytest.raises(TypeError, match=f"expected a list of .*{form}, got Conv"):
            make([A, A])
    else:
        a, objects = A.toarray(), np.array([A, None])
        objects[1] = A
        expected = {"vstack": np.vstack([a, a]), "hstack": np.hstack([a, a])}
        expected["block_diag"] = scipy.linalg.block_diag(a, a)
        for several in ([A, A], (A, A), (part for part in (A, A)), np.array([a, a]), objects):
            np.testing.assert_array_equal(make(several).toarray(), expected[stack])


def test_what_lies_outside_is_an_index_error_and_text_is_no_diagonal():
    with pytest.raises(IndexError, match="out of bounds"):
        linconv.Restriction([5], 3)
    with pytest.raises(IndexError, match="must be of integer"):
        linconv.Restriction(np.array([]), 3)  # as NumPy has it
    shape = r"as in x\[where\], on arrays of shape \(6,\): too many indices"
    with pytest.raises(IndexError, match=shape):
        linconv.Conv(np.ones(3), 6, padding=1)[1, 2, 3]
    with pytest.raises(ValueError, match=r"where is not a rectangular array.*inhomogeneous"):
        linconv.Restriction([[1, 2], [3]], (4, 4))
    with pytest.raises(TypeError, match="diagonal must hold numbers"):
        linconv.Diagonal(["a"])


def test_restrictions_index_as_numpy_does():
    x = values((4, 5), "float64")
    mask = x > 0
    for where in (
        mask, mask.tolist(), (slice(1, 3), slice(None, None, 2)), (slice(None), 2), np.s_[..., -1],
        np.s_[::-1, ::-1], ([0, 3, 0], [1, 1, 1]), 3, slice(2, 4),
    ):  # fmt: skip
        R = linconv.Restriction(where, (4, 5))
        expected = x[np.array(where) if isinstance(where, list) else where]
        np.testing.assert_array_equal(R(x), expected)
        assert R.out_shape == expected.shape
        assert_adjoint(R)
    back = linconv.Restriction(mask).T
    np.testing.assert_array_equal(back(x[mask]), np.where(mask, x, 0))


def test_rows_and_columns_are_those_of_the_matrix():
    A = linconv.Conv(values((2, 3)), (4, 5), padding=1)
    M = A.toarray()
    columns = np.zeros((4, 5), bool)
    columns[1:3, 2:] = True
    for key in (
        np.s_[3],
        np.s_[2:9:2],
        np.s_[:, 7],
        np.s_[-3:, [0, 4]],
        np.s_[M.real.sum(axis=1) > 0],
        np.s_[..., 2:5],
    ):
        part = A[key]
        dense = M[key]
        np.testing.assert_array_equal(part.toarray(), dense.reshape(part.shape))
    np.testing.assert_array_equal(A[:, columns].toarray(), M[:, columns.ravel()])
    assert A[:, columns].shape == (M.shape[0], 6)
    assert A[:] is A
    assert A[:, :] is A
    assert A[:, 2:4].out_shape == A.out_shape
    assert A.dtype == A[1:3, 2:4].dtype
    assert_adjoint(A[1:9, ::2])


def test_real_and_imaginary_parts_are_those_of_the_matrix():
    A = linconv.Conv(values((2, 3)), (4, 5), boundary="circular", padding=1)
    M = A.toarray()
    for part, expected in ((A.real, M.real), (A.imag, M.imag)):
        assert part.dtype == np.float64
        for view, dense in ((part, expected), (part.T, expected.T), (part.H, expected.T)):
            np.testing.assert_array_equal(view.toarray(), dense)
            for dtype in ("float64", "complex128"):
                x = values(view.shape[1], dtype)
                np.testing.assert_array_equal(view @ x, dense @ x)
        assert_adjoint(part)
    real = linconv.Conv([1.0, 2.0], 4)
    assert real.real is real
    assert not real.imag.toarray().any()


def test_what_is_hermitian_by_structure_is_its_own_adjoint():
    A, B = linconv.Conv(values(3), 6), linconv.Conv(values(3, "float64"), 6)
    D = linconv.Diagonal(np.arange(6.0))
    E = linconv.Identity(6)
    for N in (
        A.H @ A, B.T @ B, A @ A.H, A.H @ linconv.Diagonal([1.0, 2, 3, 4]) @ A, A.H @ A + 0.5 * E,
        3 * (A.H @ A) - B.T @ B, (A.H @ A) ** 3, linconv.block_diag([A.H @ A, D]),
        linconv.block([[None, A], [A.H, None]]), linconv.kron(A.H @ A, D), (A.H @ A).real,
        (A.H @ A).conj(), E, D,
    ):  # fmt: skip
        assert N.hermitian, N
        assert N.H is N
        assert N.T.T is N
        dense = N.toarray()
        np.testing.assert_array_equal(dense, dense.conj().T)
        np.testing.assert_array_equal(N.T.toarray(), dense.T)
        assert_adjoint(N)
    for N in (
        A.T @ A, A, 1j * (A.H @ A), A.H @ A + A.T @ A, (A.H @ A).imag, linconv.Diagonal([1j]),
        linconv.block([[None, A], [A.T, None]]), linconv.block([[D, None], [D, D]]),
        linconv.vstack([D, D]), linconv.kron(A, D),
    ):  # fmt: skip
        assert not N.hermitian, N
        assert N.H is not N


def test_a_composed_expression_is_one_matrix_within_twice_the_memory_of_its_parts():
    A = linconv.Conv(np.ones((3, 3)), (150, 150), padding=1)
    G = linconv.vstack([linconv.Conv([[1.0, -1]], (150, 150), padding=[(0, 0), (0, 1)])] * 2)
    mask = np.random.default_rng(77).random((150, 150)) < 0.7
    row = linconv.Conv([1.0, 2, 1], 300, padding=1)
    for expression, parts in (
        (linconv.vstack([A, G]), [A, G]),
        (linconv.hstack([A, A]), [A, A]),
        (linconv.block([[A, None], [None, A]]), [A, A]),
        (linconv.Restriction(mask) @ A, [A]),
        (A[:, mask], [A]),
        (linconv.kron(row, row), []),
        (A + linconv.Identity((150, 150)), [A]),
        (A.H @ A, [A]),
    ):
        most, matrix = peak(expression.tosparse)
        size = nbytes(matrix) + sum(nbytes(part.tosparse()) for part in parts)
        assert most < 2 * size, (expression, most / size)
        x = np.random.default_rng(5).standard_normal(expression.shape[1])
        np.testing.assert_allclose(matrix @ x, expression @ x, rtol=0, atol=1e-11)


class _Tags(html.parser.HTMLParser):
    """Checks that tags close, and gathers the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(A):
    tags = _Tags()
    tags.feed(A._repr_html_())
    assert not tags.open
    return tags.text.replace("\xa0", " ").replace("\xd7", "x")


def test_a_notebook_shows_shapes_nonzeros_bytes_and_parts():
    A = linconv.Conv(np.ones((3, 3)), (64, 64))
    text = shown(A.T)
    assert "Conv(float64[3, 3], (64, 64) -> (62, 62), method='sparse').T" in text
    assert "4,096 x 3,844, 34,596 nonzeros, 432 kB as CSR" in text
    text = shown(linconv.vstack([A.H @ A, 2 * linconv.Identity((64, 64))]))
    assert text.count("nonzeros: known to tosparse() only") == 2
    assert "Identity(float64, (64, 64) -> (64, 64))" in text
    assert "8,192 x 4,096" in text
    assert "3 nonzeros, 52 B as CSR" in shown(linconv.Matrix(np.eye(3)))


def test_every_composite_that_knows_its_nonzeros_is_right():
    known = 0
    for member in zoo.ZOO:
        A = member.make(np.float64(2))
        if A._nnz() is not None:
            assert A._nnz() == A.tosparse().nnz, member
            known += isinstance(A, Composite)
    assert known >= 4
