"""Compile the kernels if need be, check them, and say where they are."""

import sys

from samebits.library import folder, kernels

try:
    kernels()
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
print(folder())
