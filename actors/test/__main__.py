"""The process of the test driver."""

from actors.runtime.guard import seal_imports

seal_imports("actors.test")

from actors.runtime.actor import run  # noqa: E402
from actors.test.driver import TestActor  # noqa: E402

if __name__ == "__main__":
    run(TestActor())
