"""The shipped suite, for `pytest tests/hil --board NAME`."""

import pytest

pytest.register_assert_rewrite("pytest_nrfdfu.hil_suite.test_application", "pytest_nrfdfu.hil_suite.test_update")

from pytest_nrfdfu.hil_suite.conftest import *  # noqa: F403
