"""The cupboard: operators that a test of adjoints must catch, and right ones.

CUPBOARD holds what must fail and what must then be said, RIGHT what must pass,
pylops_findings() faults of a published library.  The parts are in broken_*.py.
"""

from broken_adjoints import GEOMETRY
from broken_blocks import BLOCKS
from broken_contracts import CONTRACTS
from broken_entries import ENTRIES
from broken_linearity import LINEARITY
from broken_parts import Broken, Right
from broken_pylops import pylops_findings
from broken_right import RIGHT
from broken_sharing import SHARING

CUPBOARD: list[Broken] = [*GEOMETRY, *ENTRIES, *LINEARITY, *CONTRACTS, *BLOCKS, *SHARING]

__all__ = ["CUPBOARD", "RIGHT", "Broken", "Right", "pylops_findings"]
