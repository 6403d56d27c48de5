"""The method "direct": products without the matrix, gathered by its stencils.

Forward and adjoint both gather: each result is added up by one thread, in a fixed
order, so nothing races and every run gives the same bits.
"""

from linconv.methods.direct.products import Direct as Direct
from linconv.methods.direct.products import why_not as why_not
