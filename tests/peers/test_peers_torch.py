"""PyTorch computes the same: convolutions, transposed ones, unfold, fold, padding modes.

PyTorch's taps are not flipped and its padding "same" puts the odd sample at the
end, as linconv's do; its words for boundary rules need the prefix "torch:".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from peers_helpers import (
    DTYPES,
    Configuration,
    assert_maps,
    configurations,
    transposed_configurations,
    whole_numbers,
)

from linconv import Conv, Unfold, conv_transpose, conv_transpose_matrix, unfold_matrix

torch = pytest.importorskip("torch")
F = torch.nn.functional

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On inputs this small, torch's threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_conv_is_torch(c: Configuration, **others: Any) -> None:
    options = c.options | others
    A = Conv(c.kernel, c.in_shape, **options)
    y = c.ask(lambda x, w: CONV[c.d](torch.tensor(x), torch.tensor(w), **options))
    assert_maps(A, A.tosparse(), c.x, y)


@examples(80)
@given(configurations(("even", "valid")))
def test_torch_conv_equals_conv_and_its_matrix(c):
    assert_conv_is_torch(c)


# torch pads once more, and says that it copies, where "same" is uneven.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@examples(40)
@given(configurations(("same",)))
def test_torch_conv_with_padding_same_equals_conv_and_its_matrix(c):
    assert_conv_is_torch(c, stride=1)  # all that torch supports


@examples(80)
@given(transposed_configurations(("even",)))
def test_torch_conv_transpose_equals_conv_transpose_and_its_matrix(c):
    f = CONV_TRANSPOSE[c.d]
    y = c.ask(lambda x, w: f(torch.tensor(x), torch.tensor(w), **c.options))
    A = conv_transpose(c.kernel, c.in_shape, **c.options)
    matrix = conv_transpose_matrix(c.kernel, c.in_shape, **c.options)
    assert_maps(A, matrix, c.x, y)


@examples(40)
@given(configurations(("even",), dims=(2,)))
def test_torch_unfold_equals_unfold_and_its_matrix(c):
    options = {name: c.options[name] for name in ("stride", "padding", "dilation")}
    x = torch.tensor(c.x if c.x.ndim == 4 else c.x[:, None])
    y = F.unfold(x, c.kernel.shape[-2:], **options).numpy()
    U = Unfold(c.in_shape, c.kernel.shape[-2:], **options)
    matrix = unfold_matrix(c.in_shape, c.kernel.shape[-2:], **options)
    assert_maps(U, matrix, c.x, y.reshape(len(y), *U.out_shape))


@examples(40)
@given(configurations(("even",), dims=(2,)), st.data())
def test_torch_fold_equals_the_transpose_of_unfold(c, data):
    options = {name: c.options[name] for name in ("stride", "padding", "dilation")}
    taps, in_shape = c.kernel.shape[-2:], c.in_shape
    U = Unfold(in_shape, taps, **options)
    y = data.draw(whole_numbers((len(c.x), *U.out_shape), c.x.dtype))
    patches = torch.tensor(y.reshape(*y.shape[:2], -1))
    x = F.fold(patches, in_shape[-2:], taps, **options).numpy()
    assert_maps(U.T, U.T.tosparse(), y, x.reshape(len(x), *in_shape))


@pytest.mark.parametrize(
    ("mode", "padding", "within"),
    [
        ("constant", "crops", True),
        ("circular", "pairs", True),  # torch: at most as wide as the input
        ("reflect", "pairs", True),  # torch: narrower than the input
        ("replicate", "pairs", False),
    ],
)
@examples(25)
@given(data=st.data())
def test_torch_pad_then_conv_equals_conv_with_that_boundary(mode, padding, within, data):
    c = data.draw(configurations((padding,), within=within))
    A = Conv(c.kernel, c.in_shape, boundary=f"torch:{mode}", **c.options)
    last_axis_first = [p for pair in reversed(c.options["padding"]) for p in pair]

    def peer(x, w):
        padded = F.pad(torch.tensor(x), last_axis_first, mode)
        return CONV[c.d](padded, torch.tensor(w), **c.options | {"padding": 0})

    assert_maps(A, A.tosparse(), c.x, c.ask(peer))


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_circular_padding_as_wide_as_the_input_equals_circular(dtype):
    x = np.arange(1, 7).reshape(1, 2, 3).astype(dtype)
    A = Conv(np.ones((1, 1)), (2, 3), padding=(2, 3), boundary="circular")
    y = F.pad(torch.tensor(x)[None], [3, 3, 2, 2], "circular")[0].numpy()
    assert_array_equal(A(x), y, strict=True)
