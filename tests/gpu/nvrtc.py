"""CUDA C++ compiled by NVRTC, which needs no GPU: the wheel nvidia-cuda-nvrtc-cu12 or -cu13."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import pytest


def library() -> Path | None:
    """Return the wheel's library, None where it is not installed."""
    try:
        found = importlib.util.find_spec("nvidia")
    except ImportError:
        return None
    folders = list(found.submodule_search_locations or ()) if found else []
    paths = [p for folder in folders for p in Path(folder).glob("*/lib/libnvrtc.so.*")]
    return max(paths, default=None)


def compile_ptx(source: str, architecture: str = "sm_90") -> str:
    """Return the PTX of a source, or skip; AssertionError with the compiler's log if it fails."""
    if library() is None:
        pytest.skip("could not import 'nvidia': NVRTC's wheel is not installed")
    nvrtc = ctypes.CDLL(str(library()))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert not nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"linconv.cu", 0, None, None
    )
    options = [b"-std=c++17", f"--gpu-architecture={architecture}".encode()]
    pointers = (ctypes.c_char_p * len(options))(*options)
    failed = nvrtc.nvrtcCompileProgram(program, len(options), pointers)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx.value.decode()
