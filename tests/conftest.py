"""One profile for hypothesis, one `cupy`; other helpers are imported by name."""

from devices import cupy as cupy  # a fixture of all tests
from hypothesis import HealthCheck, settings

# How fast examples are drawn says how busy the machine is, not whether linconv is right.
slow = [HealthCheck.too_slow]
settings.register_profile(
    "linconv", deadline=None, print_blob=True, suppress_health_check=slow
)
settings.load_profile("linconv")
