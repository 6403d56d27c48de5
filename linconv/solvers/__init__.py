"""Least squares with operators: an iterative solver and a direct one.

    minimise  |A x - b|^2 + damp^2 |x|^2 + sum_i w_i |L_i x - t_i|^2

Everything else - sparsity, total variation, bounds, eigenvalues - is for SciPy, PyLops
and pyproximal, which take linconv's operators as they are.
"""

from linconv.solvers.factorized import factorized
from linconv.solvers.least_squares import Solution, lstsq

__all__ = ["Solution", "factorized", "lstsq"]
