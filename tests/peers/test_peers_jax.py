"""JAX computes the same: its general convolution and its transposed one.

JAX's taps are not flipped; "SAME" is linconv's "same", "SAME_LOWER" its
"same_lower".  All arrays are channels first.
"""

from __future__ import annotations

import pytest
from helpers import examples
from hypothesis import given
from peers_helpers import assert_maps, configurations, transposed_configurations

from linconv import Conv, conv_transpose, conv_transpose_matrix

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # it compiles most of the time


def channels_first(d):
    return tuple(leading + "DHW"[-d:] for leading in ("NC", "OI", "NC"))


@examples(40)
@given(configurations(("same", "same_lower", "valid", "pairs", "crops")))
def test_jax_conv_general_dilated_equals_conv_and_its_matrix(c):
    padding = c.options["padding"]

    def peer(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            window_strides=c.options["stride"],
            padding=padding.upper() if isinstance(padding, str) else padding,
            rhs_dilation=c.options["dilation"],
            feature_group_count=c.options.get("groups", 1),
            dimension_numbers=channels_first(c.d),
        )

    A = Conv(c.kernel, c.in_shape, **c.options)
    assert_maps(A, A.tosparse(), c.x, c.ask(peer))


# jax.lax.conv_transpose has no groups.  With transpose_kernel its kernel is that of the
# convolution it transposes, (c_in, c_out, *k), as linconv's always is.
@examples(40)
@given(transposed_configurations(("same", "valid"), groups=1))
def test_jax_conv_transpose_equals_conv_transpose_and_its_matrix(c):
    def peer(x, w):
        return jax.lax.conv_transpose(
            x,
            w,
            strides=c.options["stride"],
            padding=c.options["padding"].upper(),
            rhs_dilation=c.options["dilation"],
            dimension_numbers=channels_first(c.d),
            transpose_kernel=True,
        )

    options = dict(c.options)
    if options["padding"] == "valid":  # JAX's output has at least s n samples
        taps = c.kernel.shape[-c.d :]
        axes = zip(taps, options["dilation"], options["stride"], strict=True)
        options["output_padding"] = [max(0, s - d * (k - 1) - 1) for k, d, s in axes]
    A = conv_transpose(c.kernel, c.in_shape, **options)
    matrix = conv_transpose_matrix(c.kernel, c.in_shape, **options)
    assert_maps(A, matrix, c.x, c.ask(peer))
