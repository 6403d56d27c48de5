"""Profiles for hypothesis, one `cupy`; other helpers are imported by name."""

from devices import cupy as cupy  # a fixture of all tests
from hypothesis import HealthCheck, settings

# How fast examples are drawn says how busy the machine is, not whether linconv is right.
slow = [HealthCheck.too_slow]
for name, count in (("quick", 15), ("thorough", 100)):
    settings.register_profile(
        name, deadline=None, print_blob=True, suppress_health_check=slow, max_examples=count
    )


def pytest_configure(config):
    """Draw all examples only where thorough tests run too."""
    quick = config.option.markexpr == "not thorough"
    settings.load_profile("quick" if quick else "thorough")
