"""Settings that hold for all of the project's own tests."""

import gc

from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("nrfdfu", deadline=None)
settings.load_profile("nrfdfu")


def pytest_collection_finish() -> None:
    """Let the garbage collector leave thousands of tests alone: each run of pytester in this process calls it often."""
    gc.collect()
    gc.freeze()
