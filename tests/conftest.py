"""Settings that hold for all tests."""

from hypothesis import settings

# a shared machine may be slow at any moment: examples are counted, not timed
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")
