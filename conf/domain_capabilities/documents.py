"""Domain capabilities between text and object."""

from __future__ import annotations

from conf.document import parse_document
from conf.domain_capabilities.capabilities import DomainCapabilities


def parse_domain_capabilities(xml: str | bytes, *, validate: bool = False) -> DomainCapabilities:
    """The domain capabilities that a document tells. Raises XmlDetailError and XmlError."""
    return DomainCapabilities.parse(
        parse_document(xml, name="domain_capabilities", root="domainCapabilities", validate=validate)
    )


def write_domain_capabilities(capabilities: DomainCapabilities) -> str:
    """The document, as libvirt writes it."""
    return capabilities.to_xml()
