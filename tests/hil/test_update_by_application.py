"""The shipped suite, for `pytest tests/hil --board NAME`."""

from pytest_nrfdfu.hil_suite.test_application import *  # noqa: F403
