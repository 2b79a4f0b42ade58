"""Runs the skeleton actor; nothing else."""

from actors.runtime.guard import seal_imports

seal_imports("actors.skeleton")

from actors.runtime.actor import run  # noqa: E402
from actors.skeleton.driver import SkeletonActor  # noqa: E402

if __name__ == "__main__":
    run(SkeletonActor())
