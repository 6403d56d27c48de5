"""The `cupy` of tests: a GPU's where there is one, marked `gpu`, else the strict stand-in."""

import importlib.util
import subprocess
import sys

import host_kernels
import pytest
import standin
from helpers import DTYPES as DTYPES

from linconv.gpu import device, matrices, vectors


def there_is_a_gpu():
    """Ask a process of its own: the stand-in cannot take the place of an imported CuPy."""
    if importlib.util.find_spec("cupy") is None:
        return False
    code = "import cupy, sys; sys.exit(not cupy.cuda.runtime.getDeviceCount())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return asked.returncode == 0


GPU = there_is_a_gpu()
if GPU:  # before any test looks whether the stand-in may take its place
    importlib.import_module("cupy")
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not GPU, reason="needs a CUDA device")]
real = pytest.param("gpu", marks=needs_gpu)
stand_in = pytest.param(
    "stand-in",
    marks=[
        pytest.mark.skipif(GPU, reason="the stand-in is for machines without a CUDA device"),
        pytest.mark.skipif(not host_kernels.COMPILER, reason="needs a C++ compiler"),
    ],
)


def forget_kernels():
    """Let those of the stand-in and of CuPy never meet."""
    for made in (matrices._module, device.raw_module, vectors._kernel):
        made.cache_clear()


@pytest.fixture(params=[stand_in, real])
def cupy(request):
    if request.param == "gpu":
        yield pytest.importorskip("cupy")
        return
    with standin.installed() as module:
        forget_kernels()
        yield module
    forget_kernels()


def needs(method):
    """Skip where a method's library is not installed, or does not see the GPU."""
    if method == "torch":
        torch = pytest.importorskip("torch")
        if GPU and not torch.cuda.is_available():
            pytest.skip("needs a PyTorch that sees the CUDA device")


def is_counted(cupy):
    """Whether copies to the host are counted: the stand-in's are."""
    return cupy.ndarray is standin.ndarray


def skip_unless_counted(cupy):
    if not is_counted(cupy):
        pytest.skip("only the stand-in counts copies to the host")


def copies(cupy, work):
    """Return how many copies to the host some work makes, and its result."""
    skip_unless_counted(cupy)
    before = standin.transfers.to_host
    result = work()
    return standin.transfers.to_host - before, result
