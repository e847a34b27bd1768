"""Compare, report, sweep and decide, in any project of DVC: see README.md."""
