"""The method "torch" on a GPU: its stream, its precision, and what it is handed."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import standin
from devices import needs

import linconv
from linconv.methods import torch as door

torch = pytest.importorskip("torch")


class Streams:
    """The functions of torch.cuda for streams, and a list of the streams made current."""

    def __init__(self):
        self.current = []

    def ExternalStream(self, pointer, device):
        return "external", pointer, device

    def default_stream(self, device):
        return "default", device

    @contextlib.contextmanager
    def stream(self, stream):
        self.current.append(stream)
        yield
        self.current.append(None)


@pytest.mark.parametrize(
    ("pointer", "stream"), [(0, ("default", 3)), (4096, ("external", 4096, 3))]
)
def test_torch_works_on_the_stream_of_cupy(pointer, stream):
    cuda = Streams()
    library = SimpleNamespace(cuda=cuda, backends=torch.backends)
    current = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=pointer))
    x = SimpleNamespace(dtype=np.dtype("f8"), __dlpack_device__=lambda: (2, 3))
    with door._as_cupy(library, SimpleNamespace(cuda=current), x):
        assert cuda.current == [stream]
    assert cuda.current == [stream, None]


def precisions():
    """Return what cuDNN's convolutions and the products of matrices round to."""
    backends = torch.backends
    if hasattr(backends.cudnn, "fp32_precision"):
        return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision
    return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_products_of_single_precision_are_not_rounded_to_tf32(dtype):
    before = precisions()
    assert before[0] in ("tf32", True)  # what torch does unless told otherwise
    for _ in range(2):
        with door.full_precision(torch, np.dtype(dtype)):
            assert not {"tf32", True}.intersection(precisions())
        assert precisions() == before
    with pytest.raises(KeyError), door.full_precision(torch, np.dtype(dtype)):
        raise KeyError(dtype)
    assert precisions() == before


def test_switches_are_left_alone_where_nothing_is_rounded():
    with door.full_precision(torch, np.dtype("float64")):
        assert precisions()[0] in ("tf32", True)


def test_an_older_torch_has_another_switch():
    cudnn = SimpleNamespace(allow_tf32=True)
    matmul = SimpleNamespace(allow_tf32=False)
    backends = SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=matmul))
    with door.full_precision(SimpleNamespace(backends=backends), np.dtype("float32")):
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
    assert (cudnn.allow_tf32, matmul.allow_tf32) == (True, False)


def test_a_torch_without_cuda_is_named(cupy, monkeypatch):
    kernel = cupy.asarray(np.ones(3))
    if not isinstance(kernel, standin.ndarray) or torch.cuda.is_available():
        pytest.skip("needs a PyTorch without CUDA, and CuPy's stand-in")
    monkeypatch.setattr(standin.ndarray, "__dlpack_device__", lambda self: (2, 0))
    with pytest.raises(RuntimeError, match=r"needs a PyTorch that sees a CUDA device, got t"):
        linconv.Conv(kernel, 7, method="torch")


def test_torch_gets_no_negative_strides(cupy):
    needs("torch")
    rng = np.random.default_rng(6)
    for n in (1, 6):
        kernel, X = rng.standard_normal(3), rng.standard_normal((n, 4))
        options = {"padding": 1, "boundary": "replicate"}
        A = linconv.Conv(cupy.asarray(kernel), n, method="torch", flip=True, **options)
        C = linconv.conv_matrix(kernel[::-1], n, **options)
        device = cupy.asarray(X)
        for x, right in (
            (device[::-1], X[::-1]),
            (device[:, ::-2], X[:, ::-2]),
            (device[::-1, 2], X[::-1, 2]),
        ):
            np.testing.assert_allclose((A @ x).get(), C @ right, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose((A.H @ x).get(), C.T @ right, rtol=1e-12, atol=1e-12)
