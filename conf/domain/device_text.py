"""What reading the text of one device settles, or refuses, before any rule looks at the device."""

from __future__ import annotations

from conf.domain import disk_text, interface_text
from conf.domain.chardev import CharMode, CharType
from conf.domain.chardev_users import Rng, Smartcard, Tpm
from conf.domain.disk import Disk
from conf.domain.filesystem import Filesystem, MountSource, RamSource
from conf.domain.interface import Interface
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputType, Lease, RedirFilter, Vsock
from conf.domain.sound import Audio, AudioSettings, AudioType, Sound, SoundModel
from conf.element import Element
from schema.errors import ConfigUnsupported, RefusedDocument, XmlError


def normalize(device: Element) -> None:
    """Drops what devices of this kind do not have. Raises XmlError for parts that are lacking."""
    match device:
        case Smartcard():
            _normalize_smartcard(device)
        case Audio():
            _normalize_audio(device)
        case Sound() if device.model not in (SoundModel.ICH6, SoundModel.ICH9):
            device.codecs = []
        case Input():
            _normalize_input(device)
        case Rng():
            _normalize_rng(device)
        case Disk():
            disk_text.normalize(device)
        case Interface():
            interface_text.normalize(device)
        case Filesystem():
            _normalize_filesystem(device)
        case Shmem() if device.msi is not None and device.server is None:
            raise XmlError("msi option is only supported with a server")
        case Shmem() if device.size is not None and not device.size.value:
            device.size = None
        case Tpm():
            _normalize_tpm(device)
        case Vsock() if device.cid is not None and device.cid.auto is None:
            device.cid.auto = device.cid.address is None
        case Lease():
            _check_lease(device)


def _normalize_rng(device: Rng) -> None:
    if device.backend.model == "egd" and device.backend.type is None:
        raise XmlError("missing EGD backend type")
    if device.backend.model == "builtin":
        device.backend.path = None
    if device.rate is not None and not device.rate.bytes:
        device.rate = None


_ALL_MODES = 0o777


def _normalize_filesystem(device: Filesystem) -> None:
    for name in ("fmode", "dmode"):
        mode: int | None = getattr(device, name)
        if mode is not None and mode > _ALL_MODES:
            raise XmlError(f"invalid {name}: '0{mode:o}'")
    if device.multidevs == "default":
        device.multidevs = None
    driver = device.driver
    if driver is not None:
        if driver.type in (None, "default"):
            driver.type = driver.format = driver.wrpolicy = None
        if driver.type != "virtiofs" or not driver.queue:
            driver.queue = None
    binary = device.binary
    if binary is not None and (driver is None or driver.type != "virtiofs"):
        device.binary = None
    source = device.source
    if isinstance(source, MountSource) and source.socket is not None:
        source.dir = None
    if isinstance(source, RamSource) and source.usage is None:
        raise XmlError("missing 'usage' attribute for RAM filesystem")


def _normalize_tpm(device: Tpm) -> None:
    backend = device.backend
    if backend.type != "emulator":
        backend.version = backend.encryption_secret = backend.active_pcr_banks = backend.persistent_state = None
    backend.persistent_state = backend.persistent_state or None
    backend.device = (backend.device or None) if backend.type == "passthrough" else None
    if backend.type != "external":
        backend.source = None
    elif backend.source is not None and backend.source.type is CharType.UNIX:
        backend.source.mode = backend.source.mode or CharMode.CONNECT


_CERTIFICATES = 3


def _normalize_smartcard(device: Smartcard) -> None:
    if device.mode == "host-certificates":
        if len(device.certificates) != _CERTIFICATES:
            raise XmlError("host-certificates mode needs exactly three certificates")
        if device.database is not None and not device.database.startswith("/"):
            raise XmlError(f"expecting absolute path: {device.database}")
    else:
        device.certificates, device.database = [], None
    if device.mode != "passthrough":
        device.type = device.source = device.protocol = None
    elif device.type is None:
        raise XmlError("passthrough mode requires a character device type attribute")


def _normalize_input(device: Input) -> None:
    if device.type not in (InputType.PASSTHROUGH, InputType.EVDEV):
        device.source = None
    elif device.source is not None:
        path = device.source.evdev if device.type is InputType.PASSTHROUGH else device.source.dev
        if path is None:
            raise XmlError("Missing evdev path for input device")


def _check_lease(device: Lease) -> None:
    if not device.key:
        raise XmlError("Missing 'key' element for lease")
    if device.target is None:
        raise XmlError("Missing 'target' element for lease")


def normalize_filter(redirected: RedirFilter) -> RedirFilter | None:
    """Rules about USB devices; a negative number is any. Without a rule there is no filter.

    Raises RefusedDocument for a class that USB does not have.
    """
    for rule in redirected.rules:
        if rule.usb_class is not None and not -1 <= rule.usb_class <= 0xFF:
            raise RefusedDocument(f"Invalid USB Class code 0x{rule.usb_class & 0xFFFFFFFF:x}")
        for name in ("usb_class", "vendor", "product", "version"):
            if (getattr(rule, name) or 0) < 0:
                setattr(rule, name, None)
    return redirected if redirected.rules else None


_AUDIO_PARTS: dict[AudioType, tuple[str, ...]] = {
    AudioType.ALSA: ("dev",),
    AudioType.COREAUDIO: ("buffer_count",),
    AudioType.JACK: ("server_name", "client_name", "connect_ports", "exact_name"),
    AudioType.OSS: ("dev", "buffer_count", "try_poll"),
    AudioType.PULSEAUDIO: ("name", "stream_name", "latency"),
    AudioType.SDL: ("buffer_count",),
}
"""What directions of each backend have beyond the rest."""


_BACKEND_PARTS: dict[AudioType, tuple[str, ...]] = {
    AudioType.OSS: ("try_mmap", "exclusive", "dsp_policy"),
    AudioType.PULSEAUDIO: ("server_name",),
    AudioType.SDL: ("driver",),
    AudioType.FILE: ("path",),
}
"""What each backend has beyond the rest."""


def _normalize_audio(audio: Audio) -> None:
    """Keeps what the backend knows."""
    kept = _AUDIO_PARTS.get(audio.type, ())
    if audio.type is AudioType.OSS and audio.dsp_policy is not None and audio.dsp_policy < 0:
        raise XmlError(f"cannot parse 'dspPolicy' value '{audio.dsp_policy}'")
    for kind, names in _BACKEND_PARTS.items():
        for name in names:
            if name not in _BACKEND_PARTS.get(audio.type, ()) and kind is not audio.type:
                setattr(audio, name, None)
    for direction in (audio.input, audio.output):
        if direction is None:
            continue
        if direction.fixed_settings:
            direction.settings = direction.settings or AudioSettings()
            if direction.mixing_engine is not True:
                raise ConfigUnsupported("fixed audio settings requires mixing engine")
        elif direction.settings is not None:
            raise ConfigUnsupported("audio settings specified without fixed settings flag")
        for names in _AUDIO_PARTS.values():
            for name in names:
                if name not in kept:
                    setattr(direction, name, None)
