"""Figures that others published, reproduced: the documents linconv grew from.

Convolution as a 4 x 16 matrix and back again, transposed convolutions step by
step, output sizes, the symbolic derivation, and the gradients of convolutions.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from linconv import Conv, FilterConv, conv_matrix, conv_transpose, conv_transpose_matrix
from linconv.symbolic import conv_matrix as symbolic_conv_matrix

KERNEL = [
    [1, 4, 1],
    [1, 4, 3],
    [3, 3, 1],
]

KERNEL_MATRIX = [
    [1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0, 0],
    [0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0],
    [0, 0, 0, 0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0],
    [0, 0, 0, 0, 0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1],
]


def test_a_3_by_3_kernel_on_4_by_4_is_this_4_by_16_matrix():
    assert_array_equal(conv_matrix(KERNEL, (4, 4)).toarray(), KERNEL_MATRIX)


def test_the_4_by_16_matrix_maps_16_samples_to_4():
    M = [
        [4, 5, 8, 7],
        [1, 8, 8, 8],
        [3, 6, 6, 4],
        [6, 5, 7, 8],
    ]
    assert_array_equal(conv_matrix(KERNEL, (4, 4)) @ np.ravel(M), [122, 148, 126, 134])
    assert_array_equal(Conv(KERNEL, (4, 4))(M), [[122, 148], [126, 134]])


def test_the_transposed_4_by_16_matrix_maps_4_samples_to_16():
    expected = [
        [2, 9, 6, 1],
        [6, 29, 30, 7],
        [10, 29, 33, 13],
        [12, 24, 16, 4],
    ]
    C = conv_matrix(KERNEL, (4, 4))
    assert_array_equal((C.T @ [2, 1, 4, 4]).reshape(4, 4), expected)
    assert_array_equal(conv_transpose(KERNEL, (2, 2))([[2, 1], [4, 4]]), expected)
    assert_array_equal(
        conv_transpose_matrix(KERNEL, (2, 2)).toarray(), np.transpose(KERNEL_MATRIX)
    )


def test_a_kernel_of_ones_adds_windows_and_its_transpose_spreads_them():
    x = [
        [3, 1, 0, 1],
        [0, 0, 0, 1],
        [2, 2, 2, 1],
    ]
    c = [
        [4, 1, 2],
        [4, 4, 4],
    ]
    spread = [
        [4, 5, 3, 2],
        [8, 13, 11, 6],
        [4, 8, 8, 4],
    ]
    ones = np.ones((2, 2), int)
    assert_array_equal(Conv(ones, (3, 4))(x), c)
    assert_array_equal(conv_transpose(ones, (2, 3))(c), spread)
    assert_array_equal(Conv(ones, (2, 3), padding=1)(c), spread)


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("p", [0, 1, 2])
def test_sizes_of_outputs_follow_the_formulas_and_invert_each_other(s, p):
    for k, i in product((1, 2, 3, 4), range(1, 12)):
        if i + 2 * p < k:
            continue  # no output
        smaller = (i + 2 * p - k) // s + 1
        C = Conv(np.ones(k), i, padding=p, stride=s)
        assert C.out_shape == (smaller,)
        a = (i + 2 * p - k) % s
        assert s * (smaller - 1) + a + k - 2 * p == i
        T = conv_transpose(np.ones(k), smaller, padding=p, stride=s, output_padding=a)
        assert T.out_shape == (i,)
        assert_array_equal(T.toarray(), C.toarray().T)


def test_a_transposed_convolution_in_1_d_adds_scaled_kernels_a_stride_apart():
    # 2 * [1, 2, 3] at 0 plus 3 * [1, 2, 3] at 2
    expected = [2, 4, 9, 6, 9]
    matrix = [
        [1, 0],
        [2, 0],
        [3, 1],
        [0, 2],
        [0, 3],
    ]
    assert_array_equal(conv_transpose_matrix([1, 2, 3], 2, stride=2).toarray(), matrix)
    assert_array_equal(conv_transpose([1, 2, 3], 2, stride=2)([2, 3]), expected)


EDGES = [
    [1, 1, 1],
    [0, 0, 0],
    [-1, -1, -1],
]


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (0, [[1, 1, 3, 2, 2],
             [0, 0, 0, 0, 0],
             [2, 2, 4, 2, 2],
             [0, 0, 0, 0, 0],
             [-3, -3, -7, -4, -4]]),
        (1, [[0, 0, 0], [2, 4, 2], [0, 0, 0]]),
    ],
)  # fmt: skip
def test_a_transposed_convolution_in_2_d_and_padding_that_crops_it(padding, expected):
    T = conv_transpose(EDGES, (2, 2), stride=2, padding=padding)
    assert_array_equal(T([[1, 2], [3, 4]]), expected)


@pytest.fixture
def sympy():
    return pytest.importorskip("sympy")


@pytest.fixture
def symbols(sympy):
    """Kernel w, input x and output y of 3 x 3 taps on 4 x 4 samples, as symbols."""
    shapes = {"w": (3, 3), "x": (4, 4), "y": (2, 2)}
    return [sympy.MatrixSymbol(name, *shape) for name, shape in shapes.items()]


def test_the_symbolic_matrix_is_the_jacobian_of_the_written_out_convolution(sympy, symbols):
    w, x, _ = symbols
    written_out = sympy.Matrix(
        [
            sum(w[a, b] * x[i + a, j + b] for a in range(3) for b in range(3))
            for i in range(2)
            for j in range(2)
        ]
    )
    C = symbolic_conv_matrix(w, (4, 4))
    assert C.shape == (4, 16)
    assert sympy.Matrix(C) == written_out.jacobian(list(x))


def test_the_symbolic_matrix_has_these_letters_on_its_diagonals(sympy, symbols):
    (a, b, c), (d, e, f), (g, h, i) = symbols[0].as_explicit().tolist()
    expected = [
        [a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0, 0],
        [0, a, b, c, 0, d, e, f, 0, g, h, i, 0, 0, 0, 0],
        [0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i, 0],
        [0, 0, 0, 0, 0, a, b, c, 0, d, e, f, 0, g, h, i],
    ]
    assert sympy.Matrix(symbolic_conv_matrix(symbols[0], (4, 4))) == sympy.Matrix(expected)


def test_the_transposed_symbolic_matrix_is_the_written_out_backward_pass(sympy, symbols):
    w, _, y = symbols
    gradient = sympy.zeros(4, 4)
    for i, j, a, b in product(range(2), range(2), range(3), range(3)):
        gradient[i + a, j + b] += w[a, b] * y[i, j]
    C = symbolic_conv_matrix(w, (4, 4))
    product_with_y = C.T * sympy.Matrix(list(y))
    assert (product_with_y - sympy.Matrix(list(gradient))).expand() == sympy.zeros(16, 1)
    # A corner has one term, an edge two, the middle all four.
    assert gradient[0, 0] == w[0, 0] * y[0, 0]
    assert gradient[0, 1] == w[0, 1] * y[0, 0] + w[0, 0] * y[0, 1]
    assert len(gradient[1, 2].args) == 4


GRADIENTS = [
    pytest.param({}, id="plain"),
    pytest.param({"stride": 2}, id="stride"),
    pytest.param({"padding": (1, 2)}, id="padding"),
    pytest.param({"groups": 2}, id="groups"),
    pytest.param({"dilation": 2, "padding": 1}, id="dilation"),
    pytest.param({"stride": (3, 2), "padding": (2, 1), "groups": 2}, id="all three"),
]


def differentiate(dtype, options):
    """Return x, w, g and torch's vector-Jacobian products of g with x -> y and w -> y."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(20240519)

    def whole(*shape):
        values = rng.integers(-9, 10, shape).astype(dtype)
        if np.dtype(dtype).kind == "c":
            values += 1j * rng.integers(-9, 10, shape)
        return values

    x = whole(3, 4, 7, 6)
    w = whole(6, 4 // options.get("groups", 1), 3, 2)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, w)]
    y = torch.nn.functional.conv2d(*leaves, **options)
    g = whole(*y.shape)
    gradients = torch.autograd.grad(y, leaves, torch.tensor(g))
    return x, w, g, *(gradient.numpy() for gradient in gradients)


@pytest.mark.parametrize("options", GRADIENTS)
def test_the_gradient_with_respect_to_the_input_is_the_transpose(options):
    x, w, g, expected, _ = differentiate(np.float64, options)
    C = Conv(w, x.shape[1:], **options)
    assert_array_equal(C.T(g), expected, strict=True)
    flat = C.tosparse().T @ g.reshape(len(g), -1).T
    assert_array_equal(flat.T.reshape(x.shape), expected, strict=True)
    unread = [(a.n + sum(a.padding) - a.extent) % a.stride for a in C.geometry.axes]
    T = conv_transpose_matrix(w, g.shape[1:], output_padding=unread, **options)
    assert_array_equal((T @ g.reshape(len(g), -1).T).T.reshape(x.shape), expected, strict=True)


@pytest.mark.parametrize("options", GRADIENTS)
def test_the_complex_gradient_with_respect_to_the_input_is_the_adjoint(options):
    x, w, g, expected, _ = differentiate(np.complex128, options)
    C = Conv(w, x.shape[1:], **options)
    assert_array_equal(C.H(g), expected, strict=True)
    assert_array_equal(C.T(g.conj()).conj(), expected, strict=True)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("options", GRADIENTS)
def test_the_gradient_with_respect_to_the_kernel_is_the_adjoint_of_filter_conv(options, dtype):
    x, w, g, _, expected = differentiate(dtype, options)
    per_image = [
        FilterConv(image, w.shape, **options).H(back) for image, back in zip(x, g, strict=True)
    ]
    assert_array_equal(np.sum(per_image, 0), expected, strict=True)
