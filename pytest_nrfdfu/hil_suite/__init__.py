"""The tests that anyone runs on any board: ``pytest --pyargs pytest_nrfdfu.hil_suite --board ...``."""
