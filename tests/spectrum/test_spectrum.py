"""Norms, singular values and preconditioners against dense linear algebra."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import zoo
from helpers import NUMPY_MODES, assert_refused, circular, few, peak, rotated, same, values

import linconv
from linconv import spectrum, testing
from linconv.operators import Product

RNG = np.random.default_rng(5077)
RULES = tuple(NUMPY_MODES)


def taps(*shape, dtype=float):
    return values(RNG, shape, dtype)


CIRCULAR = {
    "1-d": circular(taps(3), 7), "even kernel": circular(taps(4), 6),
    "kernel larger than the input": circular(taps(9), 4), "dilated": circular(taps(3), 8, dilation=3),
    "one-sided padding": linconv.Conv(taps(3), 6, padding=[(2, 0)], boundary="circular"),
    "padding far away": linconv.Conv(taps(2), 5, padding=[(7, -6)], boundary="circular"),
    "flipped": circular(taps(2, 3), (4, 5), flip=True), "size-1 axes": circular(taps(2, 3), (1, 5)),
    "3-d": circular(taps(2, 3, 1), (3, 4, 2)), "integers": circular([1, 2, 4], 5),
    "complex": circular(taps(2, 2, dtype=complex), (3, 4)),
    "more outputs": circular(taps(3, 2, 2, 3), (2, 4, 5)),
    "fewer outputs": circular(taps(2, 3, 3), (3, 6), dilation=2),
    "groups": circular(taps(4, 3, 2, 2), (6, 3, 3), groups=2),
    "depthwise, complex": circular(taps(3, 1, 2, dtype=complex), (3, 5), groups=3),
    "scaled view": (2 - 1j) * circular(taps(3, 2, 3), (2, 6)).H,
    "view of scaled": (-3 * circular(taps(3), 6)).T,
}  # fmt: skip
BOUNDED = {
    **{rule: same(taps(3), 6, boundary=rule) for rule in RULES},
    **{f"2-d {rule}": same(taps(3, 2), (4, 5), boundary=rule) for rule in RULES},
    "mixed": same(taps(3, 4), (5, 6), boundary=[("zeros", "reflect"), ("circular", "replicate")]),
    "mixed again": same(taps(4), 5, boundary=[("antireflect", "symmetric")]),
    "3-d": same(taps(2, 3, 2), (3, 2, 4), boundary="symmetric"),
    "kernel larger than the input": same(taps(7), 3, boundary="reflect"),
    "dilated and flipped": same(taps(3, 2), (5, 4), dilation=(2, 3), flip=True),
    "size-1 axis": same(taps(3, 3), (1, 4), boundary="replicate"),
    "channels": same(taps(3, 2, 3), (2, 5), boundary="replicate"),
    "groups": same(taps(4, 2, 2, 2), (4, 3, 3), groups=2, boundary="reflect"),
    "complex": same(taps(3, 3, dtype=complex), (4, 4), boundary="antireflect"),
    "float32": same(taps(3, dtype="float32"), 5),
}  # fmt: skip
OTHERS = {
    "valid": linconv.Conv(taps(3, 2), (5, 6)), "full": linconv.Conv(taps(3), 5, padding="full"),
    "stride": linconv.Conv(taps(3, 3), (7, 6), padding=1, stride=(2, 3)),
    "strided, circular": circular(taps(3), 8, stride=2),
    "transposed": linconv.conv_transpose(taps(3), 4, stride=2),
    "channels, valid": linconv.Conv(taps(3, 2, 2), (2, 6)), "identity": linconv.Identity((2, 3)),
    "diagonal": linconv.Diagonal(taps(2, 3, dtype=complex)),
    "a mask": linconv.Restriction(np.array([[True, False], [True, True]])),
    "repeated samples": linconv.Restriction([0, 2, 2, 2, 1], 4),
    "gram": (lambda B: B.H @ B)(linconv.Conv(taps(3, dtype=complex), 6)),
    "gram of a product": (lambda B: B.H @ B)(linconv.Diagonal(taps(4)) @ linconv.Conv(taps(3), 6)),
    "block_diag": linconv.block_diag([taps(2, 3), 2 * linconv.Conv(taps(2), 4)]),
    "crossed blocks": linconv.block([[None, taps(2, 3)], [taps(1, 2), None]]),
    "vstack": linconv.vstack([linconv.Conv(taps(2), 4), linconv.Identity(4)]),
    "hstack": linconv.hstack([taps(3, 2), taps(3, 3)]),
    "kron": linconv.kron(taps(2, 3), linconv.Conv(taps(2), 4)), "one row": linconv.Matrix(taps(1, 5)),
    "nothing": linconv.Matrix(np.zeros((3, 4))),
}  # fmt: skip
EVERY = {
    **{f"circular: {name}": A for name, A in CIRCULAR.items()},
    **{f"bounded: {name}": A for name, A in BOUNDED.items()},
    **OTHERS,
    **{f"zoo: {m}": m.make(zoo.scale("complex128")) for m in zoo.ZOO},
}


def over(operators):
    return pytest.mark.parametrize("A", operators.values(), ids=operators)


def assert_close(actual, expected, rtol=1e-9):
    expected = np.asarray(expected)
    single = np.asarray(actual).dtype.char in "fF"
    bound = (2e-5 if single else rtol) * max(1e-300, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@over(EVERY)
def test_norm_is_that_of_the_dense_matrix(A):
    value = spectrum.norm(A)
    assert type(value) is float
    dense = A.toarray()
    assert_close(value, np.linalg.norm(dense, 2), 1e-5 if dense.dtype.char in "fF" else 1e-9)


@over(EVERY)
def test_singular_values_are_those_of_the_dense_matrix(A):
    values = spectrum.singular_values(A)
    expected = np.linalg.svd(A.toarray(), compute_uv=False)
    assert values.shape == expected.shape
    assert values.dtype == ("float32" if A.dtype == "float32" else "float64")
    assert_close(values, expected)
    assert_close(spectrum.singular_values(A, 1), expected[:1])


def test_norm_by_structure_is_that_of_the_transformed_kernel():
    C = circular(taps(2, 2), (150, 140))
    expected = np.abs(np.fft.fft2(C.kernel, (150, 140))).max()
    assert_close(spectrum.norm(-2 * C.T), 2 * expected)
    assert_close(spectrum.norm(C.H @ C), expected**2)
    assert_close(spectrum.norm(linconv.kron(C, linconv.Diagonal([1, -3]))), 3 * expected)
    assert_close(spectrum.norm(linconv.block_diag([C, 2 * C])), 2 * expected)


def test_large_norms_and_values_without_structure():
    n = 150
    A = linconv.Conv([1, -2, 1], n, padding=1)  # eigenvalues -2 + 2 cos(pi j / (n + 1))
    expected = 2 - 2 * np.cos(np.pi * np.arange(n, 0, -1) / (n + 1))
    assert_close(spectrum.norm(A), expected[0], 1e-8)
    assert_close(spectrum.singular_values(A, 3), expected[:3])
    assert_close(spectrum.singular_values(A, 100), expected[:100])
    assert_close(spectrum.singular_values(A), expected)
    wide = linconv.Matrix(taps(70, 200, dtype=complex))
    expected = np.linalg.svd(wide.toarray(), compute_uv=False)
    for B in (wide, wide.H, scipy.sparse.linalg.aslinearoperator(wide.toarray())):
        assert_close(spectrum.norm(B), expected[0], 1e-8)
        assert_close(spectrum.singular_values(B, 4), expected[:4])


def test_large_operators_that_end_early():
    zero = scipy.sparse.csr_array((90, 80))
    assert spectrum.norm(zero) == 0
    assert (spectrum.singular_values(zero, 2) == 0).all()
    assert_close(spectrum.norm(scipy.sparse.eye_array(90)), 1)
    assert np.isnan(spectrum.norm(np.nan * scipy.sparse.eye_array(90)))


def test_results_repeat_bit_for_bit():
    A = linconv.Conv(taps(3, 3), (12, 13), padding=1)
    assert spectrum.norm(A) == spectrum.norm(A)
    assert (spectrum.singular_values(A, 5) == spectrum.singular_values(A, 5)).all()


@pytest.mark.parametrize(
    "dtype", ["float32", "longdouble", "complex64", "clongdouble", "int64"]
)
def test_any_dtype_has_singular_values_and_norms(dtype):
    A = linconv.Conv(np.array([1, 2, 3], dtype), 80)
    expected = np.linalg.svd(A.toarray().astype(complex), compute_uv=False)
    assert_close(spectrum.norm(A), expected[0], 1e-8)
    values = spectrum.singular_values(A, 2)
    assert values.dtype == ("float32" if dtype in ("float32", "complex64") else "float64")
    assert_close(values, expected[:2])
    squares = spectrum.gram_diagonal(A)
    real = {"complex64": "float32", "clongdouble": "longdouble", "int64": "float64"}
    assert squares.dtype == real.get(dtype, dtype)
    assert_close(squares, (np.abs(A.toarray()) ** 2).sum(axis=0))


def test_a_wrong_number_of_singular_values_is_refused(monkeypatch):
    A = linconv.Conv([1, 2], 4)
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"1\.\.3 = min.*\(3, 4\), got {k}"):
            spectrum.singular_values(A, k)
    with pytest.raises(TypeError, match="k must be an integer"):
        spectrum.singular_values(A, 1.5)
    big = linconv.Conv([1, 2], 1200)
    assert_refused(
        (ValueError, r"1199 of 1199 .* to 1000 rows .* pass k <= 599", lambda: spectrum.singular_values(big)),
        (TypeError, "expected a LinearOperator", lambda: spectrum.norm("A")),
    )  # fmt: skip


def test_decompositions_that_do_not_fit_are_refused(monkeypatch):
    A, wide = linconv.Conv([1, 2], 200), circular(taps(20, 20, 1), (20, 20))
    monkeypatch.setattr(linconv._arrays, "available_memory", lambda: 1 << 17)
    assert_refused(
        (MemoryError, r"decomposition of .*\(199, 200\).* with k", lambda: spectrum.singular_values(A)),
        (MemoryError, r"transform of the kernel .* fewer channels", lambda: spectrum.singular_values(wide)),
    )  # fmt: skip


@pytest.mark.parametrize("entries", [1, 7, 1 << 22])
@over(EVERY)
def test_norms_of_columns_and_rows(A, entries, monkeypatch):
    monkeypatch.setattr(spectrum.diagonals, "_ENTRIES", entries)
    squares = np.abs(A.toarray()) ** 2
    diagonal = spectrum.gram_diagonal(A)
    assert diagonal.shape == spectrum.column_norms(A).shape == A.in_shape
    assert diagonal.dtype == np.abs(A.toarray() * 1.0).dtype
    assert_close(diagonal.ravel(), squares.sum(axis=0))
    assert_close(spectrum.column_norms(A).ravel(), np.sqrt(squares.sum(axis=0)))
    assert spectrum.row_norms(A).shape == A.out_shape
    assert_close(spectrum.row_norms(A).ravel(), np.sqrt(squares.sum(axis=1)))


@pytest.mark.parametrize("channels", [False, True])
def test_gram_diagonal_does_not_store_the_matrix(channels, monkeypatch):
    monkeypatch.setattr(spectrum.diagonals, "_ENTRIES", 1 << 16)
    kernel, shape = (taps(2, 3, 7, 7), (3, 96, 96)) if channels else (taps(9, 9), (192, 192))
    A = linconv.Conv(kernel, shape, padding="same", method="fft")
    most, (diagonal, rows) = peak(lambda: (spectrum.gram_diagonal(A), spectrum.row_norms(A)))
    assert most < A.geometry.nbytes(A.dtype) / 4
    middle = tuple(n // 2 for n in shape[-2:])
    assert_close(
        diagonal[(..., *middle)],
        (kernel**2).sum(axis=(-1, -2)).sum(axis=0) if channels else (kernel**2).sum(),
    )
    assert_close(
        rows[(..., *middle)] ** 2, (kernel**2).reshape(2 if channels else 1, -1).sum(axis=1)
    )


def nearest(A, spatial):
    """The block circulant of the means of the wrapped diagonals of a dense matrix."""
    n = int(np.prod(spatial))
    dense = A.toarray()
    blocks = dense.reshape(dense.shape[0] // n, n, dense.shape[1] // n, n) * 1.0
    places = np.stack(np.unravel_index(np.arange(n), spatial))
    around = np.reshape(spatial, (-1, 1, 1))
    offset = np.ravel_multi_index((places[:, :, None] - places[:, None]) % around, spatial)
    for o, i in itertools.product(range(len(blocks)), range(blocks.shape[2])):
        means = [blocks[o, :, i][offset == j].mean() for j in range(n)]
        blocks[o, :, i] = np.array(means)[offset]
    return blocks.reshape(dense.shape)


def inverse(grams, damp=0.0):
    total = sum(grams) + damp**2 * np.eye(len(grams[0]))
    return np.linalg.inv(total)


def gram(dense):
    return dense.conj().T @ dense


@over({**{name: A for name, A in CIRCULAR.items() if "scale" not in name}, **BOUNDED})
def test_the_optimal_circulant_averages_the_wrapped_diagonals(A):
    spatial = A.geometry.out_shape[-len(A.geometry.axes) :]
    M = spectrum.circulant_preconditioner(A, 0.5, kind="optimal")
    assert_close(M.toarray(), inverse([gram(nearest(A, spatial))], 0.5))


def padding_matrix(axis, m):
    """Samples and the copies that the rules make of them, around a circle of m."""
    n, reach = axis.n, axis.extent - 1
    lo, hi = (min(max(p, 0), reach) for p in axis.padding)
    low, high = (NUMPY_MODES[rule] for rule in axis.boundary)
    below = np.array([np.pad(e, (lo, 0), **low)[:lo] for e in np.eye(n)]).reshape(n, lo)
    above = np.array([np.pad(e, (0, hi), **high)[n:] for e in np.eye(n)]).reshape(n, hi)
    return np.hstack([np.eye(n), above, np.zeros((n, m - n - lo - hi)), below]).T


def on_circle(A, lengths):
    """The dense matrix of the same taps around circles."""
    g = A.geometry
    sides = [(a.padding[0], a.extent - 1 - a.padding[0]) for a in g.axes]
    lead = (g.c_in,) if g.channels else ()
    C = linconv.Conv(
        A.kernel,
        (*lead, *lengths),
        padding=sides,
        dilation=[a.dilation for a in g.axes],
        boundary="circular",
        groups=g.groups,
        flip=g.flip,
        method="sparse",
    )
    return C.toarray()


def embedded(A, damp, lengths, extra=0):
    g = A.geometry
    P = np.eye(g.c_in)
    for axis, m in zip(g.axes, lengths, strict=True):
        E = padding_matrix(axis, m) if m != axis.n else np.eye(m)
        P = np.kron(P, np.linalg.pinv(E))
    part = np.prod([1 / axis.stride for axis in g.axes])
    return P @ inverse([part * gram(on_circle(A, lengths)) + extra], damp) @ P.T


def is_embeddable(A):
    """NumPy pads a reflected axis of one sample, or beyond a period, differently."""
    kinds = {rule for axis in A.geometry.axes for rule in axis.boundary}
    return kinds <= {"zeros", "circular", "replicate"} or min(a.n for a in A.geometry.axes) > 3


@over(
    {
        **{name: A for name, A in BOUNDED.items() if is_embeddable(A)},
        **{name: OTHERS[name] for name in ("valid", "full", "stride", "channels, valid")},
    }
)
def test_the_embedded_circulant_cuts_the_inverse_out_of_a_circle(A):
    M = spectrum.circulant_preconditioner(A, 0.5)
    assert all(m >= n for m, n in zip(M.lengths, A.in_shape[-len(M.lengths) :], strict=True))
    assert_close(M.toarray(), embedded(A, 0.5, M.lengths))


@pytest.mark.parametrize("kind", ["embedded", "optimal"])
@over({name: A for name, A in CIRCULAR.items() if "scale" not in name})
def test_around_a_circle_the_inverse_is_exact(A, kind):
    L = same(taps(*A.kernel.shape), A.in_shape, boundary="circular", groups=A.geometry.groups)
    M = spectrum.circulant_preconditioner(
        A, 0.3, [(0.7, L), (0.2, linconv.Identity(A.in_shape))], kind=kind
    )
    grams = [gram(A.toarray()), 0.7 * gram(L.toarray()), 0.2 * np.eye(A.shape[1])]
    assert_close(M.toarray(), inverse(grams, 0.3), 1e-7)


@pytest.mark.parametrize(
    ("kind", "A"),
    rotated(["embedded", "optimal"], [*CIRCULAR.values(), *BOUNDED.values(), OTHERS["valid"]]),
)
def test_the_preconditioner_is_hermitian_and_positive(A, kind):
    if A is OTHERS["valid"] and kind == "optimal":
        return
    M = spectrum.circulant_preconditioner(A, 0.1, kind=kind)
    assert M.hermitian
    assert M.H is M
    assert M.dtype == (A.dtype if A.dtype != int else float)
    assert (M.in_shape, M.out_shape) == (A.in_shape, A.in_shape)
    testing.assert_adjoint(M)
    dense = M.toarray()
    assert np.linalg.eigvalsh((dense + dense.conj().T) / 2)[0] > 0
    for dtype in (M.dtype, "complex64", "float16", "int64"):
        X = (4 * RNG.standard_normal((M.shape[1], 3))).astype(dtype)
        assert (M @ X).dtype == np.result_type(M.dtype, X)
        bound = 1e-5 if M.dtype.char in "fF" else 1e-9
        assert_close(M @ X, dense @ X.astype(np.result_type(dense, X)), bound)
    assert (M @ np.zeros((M.shape[1], 0))).shape == (M.shape[1], 0)


def test_views_multiples_sums_products_stacks_and_masks_are_understood():
    C = circular(taps(3, 2, dtype=complex), (4, 5))
    B = circular(taps(2, 2), (4, 5))
    eye = linconv.Identity((4, 5))
    c, b = C.toarray(), B.toarray()
    for A, dense in (
        (C.T, c.T), (C.H, c.conj().T), (C.conj(), c.conj()), ((2 - 1j) * C, (2 - 1j) * c),
        (2 * C - B, 2 * c - b), (B + 3 * eye, b + 3 * np.eye(20)), (3j * eye + B, b + 3j * np.eye(20)),
        (eye + eye, 2 * np.eye(20)), (C @ B.T, c @ b.T), ((C @ B).H, (c @ b).conj().T),
        ((2j * eye).conj() @ B, -2j * b), (linconv.Identity((4, 5)) @ C, c),
        (linconv.vstack([C, B, eye]), np.vstack([c, b, np.eye(20)])),
        (2 * linconv.vstack([C, B]), 2 * np.vstack([c, b])),
        (linconv.Diagonal(np.full(20, 2j)) @ C, 2 * c),
        (linconv.Diagonal(np.full((4, 5), 1j)).H + B, b - 1j * np.eye(20)),
    ):  # fmt: skip
        for kind in ("embedded", "optimal"):
            M = spectrum.circulant_preconditioner(A, 0.5, kind=kind)
            assert_close(M.toarray(), inverse([gram(dense)], 0.5), 1e-8)
    weights = RNG.standard_normal((4, 5))
    mask = RNG.random((4, 5)) < 0.6
    for D, mean in (
        (linconv.Diagonal(weights), (weights**2).mean()),
        (linconv.Restriction(mask), mask.mean()),
    ):
        M = spectrum.circulant_preconditioner(D @ B, 0.5)
        assert_close(M.toarray(), inverse([mean * gram(b)], 0.5))
        M = spectrum.circulant_preconditioner(D @ B @ C, 0.5)
        assert_close(M.toarray(), inverse([mean * gram(b @ c)], 0.5), 1e-8)
        M = spectrum.circulant_preconditioner(D, 0.5, [(2, B)])
        assert_close(M.toarray(), inverse([2 * gram(b)], np.sqrt(0.25 + mean)))
        M = spectrum.circulant_preconditioner(D, 0.5)
        assert_close(M.toarray(), np.eye(20) / (0.25 + mean))


def test_groups_of_different_operators_meet():
    A = circular(taps(4, 2, 3), (4, 5), groups=2)
    full, alone = circular(taps(2, 4, 2), (4, 5)), circular(taps(4, 1, 3), (4, 5), groups=4)
    for L in (full, alone, A + alone, full @ A, linconv.Identity((4, 5))):
        M = spectrum.circulant_preconditioner(A, 0.4, [(0.5, L)])
        assert_close(
            M.toarray(), inverse([gram(A.toarray()), 0.5 * gram(L.toarray())], 0.4), 1e-8
        )


def test_penalties_with_other_rules_share_the_circle():
    A = same(taps(3, 3), (6, 7))
    D = [same(t, (6, 7), boundary="replicate") for t in ([[1.0, -1]], [[1.0], [-1]])]
    M = spectrum.circulant_preconditioner(A, 0.3, [(0.6, linconv.vstack(D))])
    extra = 0.6 * sum(gram(on_circle(L, M.lengths)) for L in D)
    assert_close(M.toarray(), embedded(A, 0.3, M.lengths, extra))
    M = spectrum.circulant_preconditioner(A, 0.3, [(0.6, linconv.vstack(D))], kind="optimal")
    grams = [gram(nearest(L, (6, 7))) for L in (A, *D)]
    assert_close(M.toarray(), inverse([grams[0], 0.6 * grams[1], 0.6 * grams[2]], 0.3))


def test_the_target_of_a_penalty_moves_no_preconditioner():
    A, L = circular(taps(3), 6), circular([1.0, -1], 6)
    expected = inverse([gram(A.toarray()), 0.6 * gram(L.toarray())], 0.3)
    for penalty in ((0.6, L, np.arange(6.0)), (0.6, L, None), [0.6, L]):
        assert_close(spectrum.circulant_preconditioner(A, 0.3, [penalty]).toarray(), expected)


@pytest.mark.parametrize("boundary", ["zeros", "replicate", "valid"])
def test_conjugate_gradients_need_a_third_of_the_iterations(boundary):
    g = np.exp(-(np.arange(-4, 5) ** 2) / 8)
    kernel = np.outer(g, g) / np.outer(g, g).sum()
    options = {"padding": "same", "boundary": boundary} if boundary != "valid" else {}
    A = linconv.Conv(kernel, (64, 64), method="fft", **options)
    normal = A.H @ A + 1e-4 * linconv.Identity(A.in_shape)
    right = A.H @ np.random.default_rng(88).random(A.shape[0])
    counts = []
    for M in (None, spectrum.circulant_preconditioner(A, 1e-2)):
        steps = []
        x, info = scipy.sparse.linalg.cg(normal, right, rtol=1e-6, M=M, callback=steps.append)
        assert info == 0
        assert np.linalg.norm(normal @ x - right) < 2e-6 * np.linalg.norm(right)
        counts.append(len(steps))
    assert 2.9 * counts[1] < counts[0]


def test_a_singular_circulant_is_cut_off():
    for A in (circular([1.0, 1], 4), circular(np.ones((2, 2, 2)), (2, 4))):
        for kind in ("embedded", "optimal"):
            top = np.linalg.norm(A.toarray(), 2) ** 2
            values = np.linalg.eigvalsh(
                spectrum.circulant_preconditioner(A, kind=kind).toarray()
            )
            assert_close(values[[0, -1]], [1 / top, 1e10 / top], 1e-6)


def test_a_circulant_of_complex_spectrum_has_another_adjoint():
    C = circular([1.0, 2, 4], 5)
    S = np.fft.fft(C.toarray()[:, 0]).reshape(1, 1, 1, 5)
    M = spectrum.Circulant(S[..., :3], 5, (5,))
    assert not M.hermitian
    assert_close(M.toarray(), C.toarray())
    testing.assert_adjoint(M)
    testing.assert_adjoint(M.T)
    assert_close(spectrum.Circulant(S, 5, (5,), dtype=complex).H.toarray(), C.toarray().T)


def test_what_cannot_be_preconditioned_is_refused():
    make = spectrum.circulant_preconditioner
    A, V = same(taps(3), 6), linconv.Conv(taps(3), 6)
    with pytest.raises(ValueError, match="'embedded' or 'optimal', got 'strang'"):
        make(A, kind="strang")
    for wrong in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"damp must be finite and not .*, got {wrong!r}"):
            make(A, wrong)
    for kind in ("a", 1j):
        with pytest.raises(TypeError, match=r"damp must be a number, got (str|complex)"):
            make(A, kind)
    assert_refused(
        (ValueError, r"weight of a penalty must be .* got -2", lambda: make(A, 1, [(-2, A)])),
        (ValueError, r"same input.*\(1, \(5,\)\), \(1, \(6,\)\).*\[5, 6\] col", lambda: make(A, 1, [(1, same(taps(3), 5))])),
        (ValueError, r"same input.*\[5, 6\] columns", lambda: make(A, 1, [(1, linconv.Identity(5))])),
        (ValueError, r"stride 1 .* got \(6,\) -> \(4,\): use kind='embedded'", lambda: make(V, 1, kind="optimal")),
        (ValueError, r"expected stride 1 in .*: precondition the problem", lambda: make(linconv.conv_transpose(taps(3), 4, stride=2), 1)),
    )  # fmt: skip
    for wrong in (
        linconv.Matrix(np.eye(6)),
        A + linconv.Restriction(np.arange(6), 6),
        np.eye(6),
    ):
        with pytest.raises(
            TypeError, match=r"understands Conv.*got (Matrix|Restriction): approx"
        ):
            make(wrong, 1)
    for penalty, got in (((1,), "1 entries"), ((1, A, 0, 0), "4 entries"), (A, "Conv")):
        with pytest.raises(ValueError, match=rf"\(weight, L, target\), got {got}"):
            make(A, 1, [penalty])
    with pytest.raises(TypeError, match="got Kron"):
        make(linconv.kron(A, [[1]]), 1)
    for zero in (np.zeros(3), np.full(3, np.nan)):
        with pytest.raises(ValueError, match=r"not zero, got (0.0|nan) as .* pass damp > 0"):
            make(same(zero, 6))


def test_a_stack_inside_an_operator_is_refused_and_multiplied_out_understood():
    make = spectrum.circulant_preconditioner
    A = circular(taps(3, 3), (4, 5))
    parts = [circular(t, (4, 5)) for t in ([[1.0, -1]], [[1.0], [-1]])]
    G = linconv.vstack(parts)
    for L in (G.T @ G, G + G):
        with pytest.raises(
            TypeError,
            match=r"vstack only as a whole.* got one inside .* pass \(w, L\).* D\.H @ D \+ E\.H @ E$",
        ):
            make(A, 0.1, [(1.0, L)])
    D, E = parts
    g = G.toarray()
    M = make(A, 0.1, [(1.0, D.H @ D + E.H @ E)])
    assert_close(M.toarray(), inverse([gram(A.toarray()), gram(g.T @ g)], 0.1), 1e-8)
    with pytest.raises(TypeError, match="got a grid of 1 x 2 operators: approx"):
        make(A, 0.1, [(1.0, linconv.hstack([D, E]) @ G)])


def test_a_product_of_a_single_operand_is_no_gram_matrix():
    B = linconv.Matrix(taps(3, 4))
    assert_close(spectrum.norm(Product(B)), np.linalg.norm(B.toarray(), 2))


@pytest.mark.parametrize("scale", few([2.0**-1000, 2.0**960, 2.0**-660, 2.0**660], 2))
def test_norms_of_operators_whose_squares_leave_the_range_of_numbers(scale):
    kernel = np.arange(1.0, 10).reshape(3, 3)
    C = linconv.Conv(kernel, (12, 12), padding=1)
    alike = [
        (linconv.Conv(scale * kernel, (12, 12), padding=1), C),
        (scale * C, C),
        ((scale * C).T, C.T),
        (linconv.vstack([scale * C, 0 * C]), linconv.vstack([C, 0 * C])),
        ((scale * C).tosparse(), C),
        ((scale * C).toarray()[:30], C[:30]),
        (linconv.kron(linconv.Identity(2), scale * C), linconv.kron(linconv.Identity(2), C)),
        (linconv.kron(scale * C, linconv.Identity(2)), linconv.kron(C, linconv.Identity(2))),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for A, B in alike:
            dense = B.toarray()
            values = np.linalg.svd(dense, compute_uv=False)
            np.testing.assert_allclose(spectrum.norm(A) / scale, values[0], rtol=1e-7)
            found = spectrum.singular_values(A, 3) / scale
            np.testing.assert_allclose(found, values[:3], rtol=1e-7)
            for norms, axis in ((spectrum.column_norms, 0), (spectrum.row_norms, 1)):
                found = norms(A).ravel() / scale
                np.testing.assert_allclose(found, np.linalg.norm(dense, axis=axis), rtol=1e-12)


BOUNDABLE = {
    f"{rule}, {options}": (rule, options)
    for rule in (rule.value for rule in linconv.Boundary)
    for options in ("same", "wide", "strided", "channels")
}


@pytest.mark.parametrize("name", BOUNDABLE)
@pytest.mark.parametrize("dtype", ["f4", "c16"])
def test_the_bound_of_a_norm_is_above_it_and_not_far(name, dtype):
    rule, options = BOUNDABLE[name]
    rng = np.random.default_rng(41)
    shape, n = ((4, 1, 3, 2), (2, 5, 6)) if options == "channels" else ((3, 2), (5, 6))
    kernel = rng.standard_normal(shape) * (1 + 1j if dtype == "c16" else 1)
    given = {"wide": {"padding": 4}, "strided": {"padding": 2, "stride": 2}}
    given = given.get(options, {"padding": "same"}) | {"groups": 2 if len(n) == 3 else 1}
    A = linconv.Conv(kernel.astype(dtype), n, boundary=rule, **given)
    truth = np.linalg.norm(A.toarray(), 2)
    assert truth * (1 - 1e-6) <= spectrum.norm_bound(A) <= 30 * truth
    assert spectrum.norm_bound(A.T) == spectrum.norm_bound(A)


def test_bounds_of_expressions_are_above_their_norms():
    A = linconv.Conv([1.0, -2, 0.5], (7,), padding=1)
    G = linconv.gradient(7)
    for B in (A + 2 * A.T, A @ A, linconv.kron(A, A), linconv.vstack([A, G]), -G,
              linconv.Matrix([[1.0, 2], [3, 4]]), (1j * A).imag, A.reshape(in_shape=(7, 1))):  # fmt: skip
        truth = np.linalg.norm(B.toarray(), 2)
        assert truth <= spectrum.norm_bound(B) * (1 + 1e-12) <= 4 * truth


@pytest.mark.parametrize("tol", [1e-2, 1e-5, 1e-8])
def test_a_norm_has_the_accuracy_that_is_asked_for(tol):
    A = linconv.Conv(np.random.default_rng(5).standard_normal((9, 9)), (40, 41), padding=4)
    truth = np.linalg.norm(A.toarray(), 2)
    assert abs(spectrum.norm(A, tol=tol) - truth) <= tol * truth
    with pytest.raises(ValueError, match="tol must be at least 0 and below 1, got 2"):
        spectrum.norm(A, tol=2)
