"""Named operators of imaging: differences, resampling, padding, pooling.

Each is a `Conv` or composed of a few operators, so adjoints are exact.  An option is one
value, or one value per axis of `in_shape`; an axis of channels has factor or size 1, or is
left out of `axes`.
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
