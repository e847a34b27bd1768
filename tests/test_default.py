"""The project in `tests/default` that most tests try things in still fits the code.

Tests that need it are skipped if it does not, so that this one says what has to be written there.
"""

from tests.helpers.project import problems_of_default


def test_the_project_of_the_tests_fits_the_code() -> None:
    assert not (problems := problems_of_default()), "\n".join(problems)
