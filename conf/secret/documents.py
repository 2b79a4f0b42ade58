"""Secrets between text and object."""

from __future__ import annotations

from uuid import uuid4

from conf.document import parse_document
from conf.origin import told_by
from conf.secret.secret import NO_UUID, Secret, UsageType
from schema.errors import ErrorDomain, RefusedDocument

_MISSING = {
    UsageType.VOLUME: "volume usage specified, but volume path is missing",
    UsageType.CEPH: "Ceph usage specified, but name is missing",
    UsageType.ISCSI: "iSCSI usage specified, but target is missing",
    UsageType.TLS: "TLS usage specified, but name is missing",
    UsageType.VTPM: "vTPM usage specified, but name is missing",
}


@told_by(ErrorDomain.SECRET)
def parse_secret(xml: str | bytes, *, validate: bool = False) -> Secret:
    """The secret that a document describes. Raises XmlDetailError, XmlError, ConfigUnsupported."""
    secret = Secret.parse(parse_document(xml, name="secret_definition", root="secret", validate=validate))
    if secret.uuid == NO_UUID:
        secret.uuid = uuid4()
    usage = secret.usage
    if usage is not None and usage.type is not UsageType.NONE and usage.id is None:
        raise RefusedDocument(_MISSING[usage.type])
    if usage is not None and usage.type is UsageType.NONE:
        secret.usage = None
    return secret


def write_secret(secret: Secret) -> str:
    """The document of a secret, as libvirt writes it."""
    return secret.to_xml()
