"""Why an operator failed: `causes_of` a test, `diagnose` for two matrices.

The entry point of this room.
"""

from linconv.testing.diagnosis.diagnosis import Diagnosis, diagnose
from linconv.testing.diagnosis.explain import causes as causes_of

__all__ = ["Diagnosis", "causes_of", "diagnose"]
