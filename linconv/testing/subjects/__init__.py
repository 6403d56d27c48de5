"""Operators of any library, matrices and pairs of functions, each as a `Subject`.

The entry point of this package.
"""

from linconv.testing.subjects.adapters import as_subject
from linconv.testing.subjects.arrays import Arrays, NumpyArrays, arrays_for, as_dtype
from linconv.testing.subjects.subject import Subject

__all__ = ["Arrays", "NumpyArrays", "Subject", "arrays_for", "as_dtype", "as_subject"]
