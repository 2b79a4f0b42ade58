"""Runs the remote actor; nothing else."""

from actors.runtime.guard import seal_imports

seal_imports("actors.remote")

from actors.remote.driver import RemoteActor  # noqa: E402
from actors.runtime.actor import run  # noqa: E402

if __name__ == "__main__":
    run(RemoteActor())
