"""Norms, singular values and circulant preconditioners of operators."""

from linconv.spectrum.bounds import norm_bound
from linconv.spectrum.circulant import Circulant as Circulant
from linconv.spectrum.diagonals import column_norms, gram_diagonal, row_norms
from linconv.spectrum.preconditioner import circulant_preconditioner
from linconv.spectrum.svd import norm, singular_values

__all__ = [
    "Circulant",
    "circulant_preconditioner",
    "column_norms",
    "gram_diagonal",
    "norm",
    "norm_bound",
    "row_norms",
    "singular_values",
]
