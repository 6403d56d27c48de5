"""LinearOperator, its algebra, stored matrices and blocks.

Knows nothing of convolutions.
"""

from linconv.operators.blocks import Block as Block
from linconv.operators.blocks import Diagonal as Diagonal
from linconv.operators.blocks import Kron as Kron
from linconv.operators.blocks import block as block
from linconv.operators.blocks import block_diag as block_diag
from linconv.operators.blocks import hstack as hstack
from linconv.operators.blocks import kron as kron
from linconv.operators.blocks import vstack as vstack
from linconv.operators.linear import Composite as Composite
from linconv.operators.linear import Identity as Identity
from linconv.operators.linear import LinearOperator as LinearOperator
from linconv.operators.linear import Matrix as Matrix
from linconv.operators.linear import Part as Part
from linconv.operators.linear import Product as Product
from linconv.operators.linear import Restriction as Restriction
from linconv.operators.linear import Scaled as Scaled
from linconv.operators.linear import Stored as Stored
from linconv.operators.linear import Sum as Sum
from linconv.operators.linear import View as View
from linconv.operators.linear import aslinearoperator as aslinearoperator
from linconv.operators.shaped import canonical as canonical
from linconv.operators.shaped import common_device as common_device
