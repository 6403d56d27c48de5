"""Symbols through the same stencils as numbers."""

import sys

import numpy as np
import pytest

import linconv
from linconv import symbolic


def test_without_sympy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(ImportError, match=r"needs sympy.*pip install 'linconv\[symbolic\]'"):
        symbolic.conv_matrix([1, 2], 3)


@pytest.mark.parametrize(
    ("kernel_shape", "in_shape", "options"),
    [
        ((3,), (5,), {"padding": 2, "boundary": "antireflect"}),
        ((2, 3), (4, 5), {"stride": 2, "padding": 1, "boundary": "circular", "flip": True}),
        ((2, 3, 2), (3, 4), {"dilation": 2, "padding": 3, "boundary": "symmetric"}),
        ((4, 1, 2), (2, 5), {"groups": 2}),
    ],
)
def test_the_symbols_matrix_is_the_matrix_where_numbers_are_put_in(
    kernel_shape, in_shape, options
):
    sympy = pytest.importorskip("sympy")
    numbers = np.random.default_rng(1492).integers(-9, 10, kernel_shape)
    symbols = np.array(sympy.symbols(f"w:{numbers.size}")).reshape(kernel_shape)
    values = dict(zip(symbols.ravel(), numbers.ravel().tolist(), strict=True))
    matrix = symbolic.conv_matrix(symbols.tolist(), in_shape, **options)
    expected = linconv.conv_matrix(numbers, in_shape, **options).toarray()
    np.testing.assert_array_equal(np.array(matrix.subs(values).tolist(), int), expected)


def test_symbols_that_do_not_fit_say_so():
    sympy = pytest.importorskip("sympy")
    with pytest.raises(ValueError, match="does not fit an input of shape"):
        symbolic.conv_matrix(sympy.MatrixSymbol("w", 3, 3), 4)
    with pytest.raises(ValueError, match="unknown boundary"):
        symbolic.conv_matrix(sympy.symbols("a b"), 4, boundary="mirror")
