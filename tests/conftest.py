"""Settings that hold for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# a shared machine may be slow at any moment: examples are counted, not timed
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread, as small models like it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
