"""Named operators of imaging: differences, resampling, padding, pooling.

Each is a `Conv` or a few operators put together, so adjoints are exact.  Options are
given once or one per axis of `in_shape`; an axis of channels is an axis with factor
or size 1, or one that `axes` leaves out.
"""

from linconv.imaging.differences import divergence, gradient, laplacian
from linconv.imaging.padding import crop, pad
from linconv.imaging.pooling import average_pool
from linconv.imaging.resampling import downsample, resize, upsample

__all__ = [
    "average_pool",
    "crop",
    "divergence",
    "downsample",
    "gradient",
    "laplacian",
    "pad",
    "resize",
    "upsample",
]
