"""Why an operator failed: `causes_of` a test, `diagnose` for two matrices.

The entry point of this room.
"""

from linconv.testing.diagnosis.failures import causes_of
from linconv.testing.diagnosis.matrices import Diagnosis, diagnose

__all__ = ["Diagnosis", "causes_of", "diagnose"]
