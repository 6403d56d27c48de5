"""Least squares with operators: an iterative solver and a direct one."""

from linconv.solvers.least_squares import Solution, factorized, lstsq

__all__ = ["Solution", "factorized", "lstsq"]
