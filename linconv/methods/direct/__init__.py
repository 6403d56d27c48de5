"""The method "direct": products without the matrix, gathered by its stencils."""

from linconv.methods.direct.direct import Direct as Direct
from linconv.methods.direct.direct import why_not as why_not
