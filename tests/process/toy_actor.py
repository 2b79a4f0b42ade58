"""The unit tests' toy driver as a process of its own."""

from actors.runtime.actor import run
from tests.unit.runtime.house import ToyActor


class GatedToyActor(ToyActor):
    """Its gate stands open, so that no call hangs unless a test asks for it."""


if __name__ == "__main__":
    run(GatedToyActor())
