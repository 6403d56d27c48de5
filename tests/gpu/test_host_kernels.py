"""Kernels that run on the host: threads of a block as fibers, with their barriers."""

import host_kernels
import numpy as np
import pytest
import standin
from devices import GPU

# Reverse the numbers of a block in shared memory.
REVERSE = r"""
struct value { double part; };
extern "C" __global__ void reverse(const value* x, value* y)
{
    extern __shared__ value shared_memory[];
    int t = (int) threadIdx.x, last = (int) blockDim.x - 1;
    shared_memory[t] = x[t];
    BARRIER
    y[t] = shared_memory[last - t];
}
"""


@pytest.mark.skipif(GPU, reason="the stand-in is for machines without a CUDA device")
@pytest.mark.skipif(not host_kernels.COMPILER, reason="needs a C++ compiler")
class TestHostKernels:
    def run(self, barrier, shared=8 * 64):
        with standin.installed() as cupy:
            x, y = cupy.asarray(np.arange(64.0)), cupy.asarray(np.zeros(64))
            code = REVERSE.replace("BARRIER", barrier)
            kernel = cupy.RawModule(code=code, options=("-std=c++17",)).get_function("reverse")
            kernel((1,), (64,), (x, y), shared_mem=shared)
            return y.get()

    def test_threads_wait_for_each_other(self):
        np.testing.assert_array_equal(self.run("__syncthreads();"), np.arange(64.0)[::-1])

    def test_a_missing_barrier_is_seen(self):
        # The barrier is there for the runner to use fibers, and nobody gets to it.
        got = self.run("if (t > last) __syncthreads();")
        assert np.isnan(got[:32]).all()

    @pytest.mark.parametrize(
        ("barrier", "shared", "match"),
        [
            ("if (t) __syncthreads();", 8 * 64, "threads wait at different barr"),
            ("if (t % 2) __syncthreads();\nelse __syncthreads();", 8 * 64, "at different barr"),
            ("__syncthreads();", 8 * 63, "or write behind shared memory"),
            ("__syncthreads();", 8 * 6145, "49160 bytes of shared memory, at most 49152"),
            ("__shared__ double a[64]; __syncthreads();", 8 * 64, "only dynamic shared memory"),
        ],
    )  # fmt: skip
    def test_what_a_gpu_would_not_run_is_refused(self, barrier, shared, match):
        with pytest.raises(AssertionError, match=match):
            self.run(barrier, shared)
