"""Methods, which compute the products of a Conv, and the choice among them.

May import assembly, gpu, geometry and _arrays; knows nothing of operators.  Every method must
agree with the stored matrix, which defines the convolution.
"""

from linconv.methods.choice import GPU_METHODS as GPU_METHODS
from linconv.methods.choice import METHODS as METHODS
from linconv.methods.choice import Choice as Choice
from linconv.methods.choice import Method as Method
from linconv.methods.choice import choose as choose
from linconv.methods.choice import estimates as estimates
from linconv.methods.choice import why_not as why_not
