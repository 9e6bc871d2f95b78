"""Settings that hold for all of the project's own tests."""

from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("nrfdfu", deadline=None)
settings.load_profile("nrfdfu")
