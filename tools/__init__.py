"""Commands that a person types, one file each, and in the folders below what they stand on."""

import stages  # noqa: F401  (prepares the process where a tool is run as a command)
