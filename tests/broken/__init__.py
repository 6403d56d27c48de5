"""The catalogue: operators that a test of adjoints must catch, and right ones.

CATALOGUE holds what must fail and what must then be said, RIGHT what must pass,
pylops_findings() faults of a published library.  Each file holds some families.
"""

from broken.adjoints import GEOMETRY
from broken.blocks import BLOCKS
from broken.contracts import CONTRACTS
from broken.entries import ENTRIES
from broken.linearity import LINEARITY
from broken.parts import Broken, Right
from broken.pylops import pylops_findings
from broken.right import RIGHT
from broken.sharing import SHARING

CATALOGUE: list[Broken] = [*GEOMETRY, *ENTRIES, *LINEARITY, *CONTRACTS, *BLOCKS, *SHARING]

__all__ = ["CATALOGUE", "RIGHT", "Broken", "Right", "pylops_findings"]
