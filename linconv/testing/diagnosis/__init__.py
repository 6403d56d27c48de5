"""Why an operator failed: `causes_of` for a test, `diagnose` for two matrices.

The entry point of this package.
"""

from linconv.testing.diagnosis.failures import causes_of
from linconv.testing.diagnosis.matrices import Diagnosis, diagnose

__all__ = ["Diagnosis", "causes_of", "diagnose"]
