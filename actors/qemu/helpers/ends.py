"""Where a guest's QEMU finds the helpers that run beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from schema.errors import ConfigUnsupported


@dataclass(slots=True)
class Ends:
    """The ends of helpers that are for QEMU, by the alias of the device."""

    tpms: dict[str, str] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    cards: dict[str, int] = field(default_factory=dict)
    """Descriptors, which whoever starts QEMU closes."""

    def tpm_socket(self, alias: str) -> str:
        """The socket of an emulated TPM. Raises ConfigUnsupported when nothing is it."""
        return _need(self.tpms, alias)

    def passt_socket(self, alias: str) -> str:
        """The socket of an interface's other end. Raises ConfigUnsupported when nothing is it."""
        return _need(self.networks, alias)

    def take_card(self, alias: str) -> int:
        """The descriptor of what draws for a card, once. Raises ConfigUnsupported when nothing does."""
        descriptor = self.cards.pop(alias, None)
        if descriptor is None:
            raise ConfigUnsupported(f"no helper program runs for device '{alias}'")
        return descriptor


def _need(found: dict[str, str], alias: str) -> str:
    path = found.get(alias)
    if path is None:
        raise ConfigUnsupported(f"no helper program runs for device '{alias}'")
    return path
