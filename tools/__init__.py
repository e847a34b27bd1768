"""Commands of this project beside its pipeline: `python -m tools --help` lists them."""
