"""LinearOperator, its algebra, stored matrices and blocks.

Knows nothing of convolutions.
"""

from linconv.operators.algebra import ComplexPart as ComplexPart
from linconv.operators.algebra import Composite as Composite
from linconv.operators.algebra import Identity as Identity
from linconv.operators.algebra import Product as Product
from linconv.operators.algebra import Reshaped as Reshaped
from linconv.operators.algebra import Scaled as Scaled
from linconv.operators.algebra import Sum as Sum
from linconv.operators.algebra import View as View
from linconv.operators.algebra import common_device as common_device
from linconv.operators.algebra import common_shape as common_shape
from linconv.operators.algebra import with_data as with_data
from linconv.operators.blocks import Block as Block
from linconv.operators.blocks import Diagonal as Diagonal
from linconv.operators.blocks import Kron as Kron
from linconv.operators.blocks import block as block
from linconv.operators.blocks import block_diag as block_diag
from linconv.operators.blocks import hstack as hstack
from linconv.operators.blocks import kron as kron
from linconv.operators.blocks import vstack as vstack
from linconv.operators.foreign import aslinearoperator as aslinearoperator
from linconv.operators.linear import LinearOperator as LinearOperator
from linconv.operators.stored import Matrix as Matrix
from linconv.operators.stored import Restriction as Restriction
from linconv.operators.stored import Stored as Stored
