"""Devices whose host end is a character device: random number generators, smart cards, USB redirection, TPMs."""

from enum import StrEnum
from uuid import UUID

from conf.domain.chardev import CHAR_SOURCES, CharLog, CharMode, CharSource, CharType, UdpSource
from conf.domain.device import Device, VirtioDriver
from conf.domain.status_parts import TpmPrivate, in_status
from conf.element import Element, Empty, attr, child, content, flag, one_of, text, texts, value
from conf.faults import internal, lacking, malformed, unsupported
from conf.values import SOME, UUID_TEXT, YES_NO, words
from schema.errors import RefusedDocument, XmlError


class RngRate(Element, tag="rate"):
    """How many bytes the guest gets in how many ms."""

    bytes: int | None = attr("bytes", SOME, default=None, bad=malformed("invalid RNG rate bytes value"), blank=True)
    period_ms: int | None = attr(
        "period", SOME, default=None, bad=malformed("invalid RNG rate period value"), blank=True
    )


class RngModel(StrEnum):
    """The models of random number generators."""

    VIRTIO = "virtio"
    VIRTIO_TRANSITIONAL = "virtio-transitional"
    VIRTIO_NON_TRANSITIONAL = "virtio-non-transitional"


class RngBackend(Element, tag="backend"):
    """Where randomness comes from: a device file as text, an EGD server, or the hypervisor."""

    model: str = attr(
        "model",
        words("random", "egd", "builtin"),
        missing=lacking(XmlError, "missing RNG device backend model"),
        bad=unsupported("unknown RNG backend model '{}'"),
    )
    type: CharType | None = attr("type", CharType, default=None, bad=unsupported("unknown backend type '{}' for egd"))
    path: str | None = content(str, default=None)
    source: CharSource | None = one_of(*CHAR_SOURCES, by_parent="type", default=None)
    second_source: UdpSource | None = child(UdpSource, default=None, tag="source")
    protocol: str | None = value("protocol", "type", str, default=None)
    log: CharLog | None = child(CharLog, default=None)


class Rng(Device, tag="rng"):
    """A random number generator."""

    model: RngModel = attr(
        "model",
        RngModel,
        missing=lacking(XmlError, "missing RNG device model"),
        bad=unsupported("unknown RNG model '{}'"),
    )
    rate: RngRate | None = child(RngRate, default=None)
    backend: RngBackend = child(RngBackend, missing=lacking(XmlError, "only one RNG backend is supported"))
    driver: VirtioDriver | None = child(VirtioDriver, default=None)


class Smartcard(Device, tag="smartcard"):
    """A smart card."""

    mode: str = attr("mode", words("host", "host-certificates", "passthrough"))
    type: CharType | None = attr(
        "type",
        CharType,
        default=None,
        bad=unsupported("unknown type presented to host for character device: {}"),
    )
    source: CharSource | None = one_of(*CHAR_SOURCES, by_parent="type", default=None)
    second_source: UdpSource | None = child(UdpSource, default=None, tag="source")
    protocol: str | None = value("protocol", "type", str, default=None)
    log: CharLog | None = child(CharLog, default=None)
    certificates: list[str] = texts("certificate", str, default=[])
    database: str | None = text("database", str, default=None)


class RedirDev(Device, tag="redirdev", boots=True):
    """A USB device that a client of the display gives."""

    bus: str = attr("bus", words("usb"), default="usb", bad=unsupported("unknown redirdev bus '{}'"))
    type: CharType = attr(
        "type",
        CharType,
        missing=lacking(RefusedDocument, "missing type in redirdev"),
        bad=unsupported("unknown redirdev character device type '{}'"),
    )
    source: CharSource | None = one_of(*CHAR_SOURCES, by_parent="type", default=None)
    second_source: UdpSource | None = child(UdpSource, default=None, tag="source")
    protocol: str | None = value("protocol", "type", str, default=None)
    log: CharLog | None = child(CharLog, default=None)


class TpmModel(StrEnum):
    """The models of TPMs."""

    TIS = "tpm-tis"
    CRB = "tpm-crb"
    SPAPR = "tpm-spapr"
    SPAPR_PROXY = "spapr-tpm-proxy"


class PcrBanks(Element, tag="active_pcr_banks", empty=Empty.OMIT, unknown=unsupported("Unsupported PCR banks '{}'")):
    """The banks of registers that are active."""

    sha1: bool = flag("sha1", default=False)
    sha256: bool = flag("sha256", default=False)
    sha384: bool = flag("sha384", default=False)
    sha512: bool = flag("sha512", default=False)


class TpmSource(Element, tag="source"):
    """The socket of an external emulator."""

    type: CharType = attr(
        "type",
        CharType,
        missing=lacking(XmlError, "missing external TPM backend type"),
        bad=unsupported("unknown backend type '{}' for external TPM"),
    )
    mode: CharMode | None = attr("mode", CharMode, default=None)
    path: str | None = attr("path", str, default=None)


class TpmBackend(Element, tag="backend"):
    """The host's TPM, or an emulated one."""

    type: str = attr("type", words("passthrough", "emulator", "external"))
    version: str | None = attr("version", words("1.2", "2.0"), default=None)
    persistent_state: bool | None = attr(
        "persistent_state",
        YES_NO,
        default=None,
        bad=internal("Invalid persistent_state value, either 'yes' or 'no'"),
    )
    device: str | None = value("device", "path", str, default=None)
    encryption_secret: UUID | None = value(
        "encryption",
        "secret",
        UUID_TEXT,
        default=None,
        blank=True,
        bad=internal("Unable to parse secret uuid '{}'"),
    )
    active_pcr_banks: PcrBanks | None = child(PcrBanks, default=None)
    source: TpmSource | None = child(TpmSource, default=None)


class _StatusLast(Device, trailing=True):
    private: TpmPrivate | None = child(TpmPrivate, default=None, shown=in_status("private"))


class Tpm(_StatusLast, tag="tpm"):
    """A trusted platform module."""

    model: TpmModel | None = attr("model", TpmModel, default=None)
    backend: TpmBackend = child(TpmBackend, missing=lambda node: XmlError("missing TPM device backend"))
