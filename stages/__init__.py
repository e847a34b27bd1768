"""The pipeline: a module for each stage, and in the folders what they stand on.

`python -m stages NAME` runs a stage; `__main__.py` prepares the process for it.
"""

import os

# Read before the slow imports of a stage, because the parent may end during them.
PARENT_PID = os.getppid()
