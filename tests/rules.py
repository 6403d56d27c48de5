"""The boundary rules as numpy.pad knows them: the reference of all edges."""

NUMPY_MODES = {
    "zeros": {"mode": "constant"},
    "circular": {"mode": "wrap"},
    "reflect": {"mode": "reflect"},
    "symmetric": {"mode": "symmetric"},
    "replicate": {"mode": "edge"},
    "antireflect": {"mode": "reflect", "reflect_type": "odd"},
}
