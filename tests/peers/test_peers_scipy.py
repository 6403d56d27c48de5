"""SciPy and NumPy compute the same: scipy.signal, ndimage and linalg, numpy.pad.

scipy.signal.convolve and scipy.ndimage.convolve flip the taps; both correlates do
not, but conjugate them.  "Same" outputs of both libraries are centred on tap
k // 2 of the correlation, which is linconv's "same_lower" for an even kernel;
scipy.ndimage.convolve alone has linconv's "same".
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.signal
from helpers import NUMPY_MODES, examples, padded
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from peers_helpers import assert_maps, configurations

from linconv import Boundary, Conv, conv_matrix

PADDING = {"full": "full", "valid": "valid", "same": "same_lower"}


def plain(padding, **options):
    """Draw one channel, stride 1, dilation 1, as all that follows knows no others."""
    return configurations((padding,), groups=0, steps=1, **options)


@pytest.mark.parametrize("flip", [True, False], ids=["convolve", "correlate"])
@pytest.mark.parametrize("mode", PADDING)
@examples(20)
@given(data=st.data())
def test_scipy_signal_equals_the_conv_flipped_or_with_conjugated_taps(mode, flip, data):
    c = data.draw(plain(PADDING[mode]))
    A = Conv(c.kernel if flip else c.kernel.conj(), c.in_shape, flip=flip, **c.options)
    peer = scipy.signal.convolve if flip else scipy.signal.correlate
    assert_maps(A, A.tosparse(), c.x, c.ask_each(peer, mode, method="direct"))


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", PADDING)
@examples(10)
@given(data=st.data())
def test_scipy_signal_convolve2d_equals_the_flipped_conv(mode, boundary, data):
    c = data.draw(plain(PADDING[mode], dims=(2,)))
    A = Conv(c.kernel, c.in_shape, boundary=f"scipy:{boundary}", flip=True, **c.options)
    assert_maps(A, A.tosparse(), c.x, c.ask_each(scipy.signal.convolve2d, mode, boundary))


@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@examples(10)
@given(data=st.data())
def test_scipy_linalg_convolution_matrix_equals_the_flipped_conv_matrix(mode, data):
    c = data.draw(plain("valid", dims=(1,)))  # "same" is as long as the longer operand
    A = conv_matrix(c.kernel, c.in_shape, padding=PADDING[mode], flip=True)
    expected = scipy.linalg.convolution_matrix(c.kernel, *c.in_shape, mode)
    assert_array_equal(A.toarray(), expected, strict=True)


@pytest.mark.parametrize("flip", [True, False], ids=["convolve", "correlate"])
@pytest.mark.parametrize("mode", ["reflect", "constant", "nearest", "mirror", "wrap"])
@examples(15)
@given(data=st.data())
def test_scipy_ndimage_equals_the_conv_flipped_or_with_conjugated_taps(mode, flip, data):
    c = data.draw(plain("same" if flip else "same_lower"))
    taps = c.kernel if flip else c.kernel.conj()
    A = Conv(taps, c.in_shape, boundary=f"ndimage:{mode}", flip=flip, **c.options)
    centres = tuple((k // 2, k - 1 - k // 2) for k in c.kernel.shape)
    assert flip or tuple(axis.padding for axis in A.geometry.axes) == centres
    peer = scipy.ndimage.convolve if flip else scipy.ndimage.correlate
    assert_maps(A, A.tosparse(), c.x, c.ask_each(peer, mode=mode))


@examples(100)
@given(plain("crops"), st.data())
def test_numpy_pad_equals_the_conv_of_one_tap_whatever_the_rule_of_each_side(c, data):
    pairs = c.options["padding"]
    rule = st.sampled_from([rule.value for rule in Boundary])
    rules = tuple(data.draw(st.tuples(rule, rule)) for _ in pairs)
    y = padded(c.x, ((0, 0), *pairs), ("zeros", *rules))
    A = Conv(np.ones((1,) * c.d), c.in_shape, padding=pairs, boundary=rules)
    assert_maps(A, A.tosparse(), c.x, y)


@pytest.mark.parametrize("boundary", NUMPY_MODES)
@examples(15)
@given(data=st.data())
def test_numpy_pad_equals_the_conv_of_one_tap(boundary, data):
    c = data.draw(plain("pairs"))
    y = np.pad(c.x, ((0, 0), *c.options["padding"]), **NUMPY_MODES[boundary])
    A = Conv(np.ones((1,) * c.d), c.in_shape, boundary=boundary, **c.options)
    assert_maps(A, A.tosparse(), c.x, y)
