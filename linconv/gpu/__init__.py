"""The GPU: everything that knows CuPy, behind one entry point.

May import assembly, geometry, _arrays and _options.  CuPy is imported inside functions,
when an array of CuPy's is given or somebody asks for a GPU.
"""

from linconv.gpu import vectors as vectors
from linconv.gpu.decisions import decide_lengths as decide_lengths
from linconv.gpu.decisions import decide_who_goes_on as decide_who_goes_on
from linconv.gpu.decisions import decides as decides
from linconv.gpu.device import adjoint as adjoint
from linconv.gpu.device import as_values as as_values
from linconv.gpu.device import block_matrix as block_matrix
from linconv.gpu.device import canonical as canonical
from linconv.gpu.device import check_dtype as check_dtype
from linconv.gpu.device import copied as copied
from linconv.gpu.device import forward as forward
from linconv.gpu.device import is_matrix as is_matrix
from linconv.gpu.device import library as library
from linconv.gpu.device import owns as owns
from linconv.gpu.device import raw_module as raw_module
from linconv.gpu.device import scaled as scaled
from linconv.gpu.device import sparse_array as sparse_array
from linconv.gpu.device import to_device as to_device
from linconv.gpu.device import to_host as to_host
from linconv.gpu.matrices import check_size as check_size
from linconv.gpu.matrices import conv_matrix as conv_matrix
from linconv.gpu.matrices import require_memory as require_memory
from linconv.gpu.matrices import unfold_matrix as unfold_matrix
from linconv.gpu.matrices import varying_matrix as varying_matrix
from linconv.gpu.products import Direct as Direct
from linconv.gpu.sums import dots as dots
