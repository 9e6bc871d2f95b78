"""The shipped suite, for `pytest tests/hil --board NAME`."""

from pytest_nrfdfu.hil_suite.test_update import *  # noqa: F403
