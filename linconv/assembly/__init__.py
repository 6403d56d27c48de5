"""Geometry and kernel -> CSR arrays, by the stencils of every axis.

May import geometry, _arrays and _options; knows nothing of operators.
"""

from linconv.assembly.csr import Csr as Csr
from linconv.assembly.csr import Grid as Grid
from linconv.assembly.csr import MatrixRows as MatrixRows
from linconv.assembly.csr import Place as Place
from linconv.assembly.csr import arranged as arranged
from linconv.assembly.csr import check_size as check_size
from linconv.assembly.csr import conv_csr as conv_csr
from linconv.assembly.csr import grid_of as grid_of
from linconv.assembly.csr import matrix_rows as matrix_rows
from linconv.assembly.csr import places_of as places_of
from linconv.assembly.csr import tap_rows as tap_rows
from linconv.assembly.csr import unfold_csr as unfold_csr
from linconv.assembly.csr import varying_csr as varying_csr
from linconv.assembly.stencils import Segment as Segment
from linconv.assembly.stencils import Stencil as Stencil
from linconv.assembly.stencils import segments as segments
