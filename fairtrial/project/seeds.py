"""Seeds that are derived from another seed, one for each purpose."""

import hashlib


def derived_seed(seed: int, purpose: str) -> int:
    """Return a seed from 0 to 2^32 - 1 that depends on both arguments and looks random."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
