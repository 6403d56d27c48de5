"""One profile for hypothesis; `zoo` and other helpers are imported by name."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("linconv", deadline=None, print_blob=True)
settings.load_profile("linconv")
