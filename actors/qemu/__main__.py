"""The QEMU driver's process."""

from actors.runtime.guard import seal_imports

seal_imports("actors.qemu")

from actors.qemu.driver import QemuActor  # noqa: E402
from actors.runtime.actor import run  # noqa: E402

if __name__ == "__main__":
    run(QemuActor())
