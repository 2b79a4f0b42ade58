"""Sound cards and where their sound goes: `<sound>`, `<audio>`."""

from enum import StrEnum

from conf.domain.device import Device
from conf.element import Element, Empty, attr, child, children, value
from conf.faults import lacking, missing_attribute, unsupported
from conf.values import INT32, POSITIVE, SOME, YES_NO, words
from schema.errors import ConfigUnsupported


class SoundModel(StrEnum):
    """The models of sound cards."""

    SB16 = "sb16"
    ES1370 = "es1370"
    PCSPK = "pcspk"
    AC97 = "ac97"
    ICH6 = "ich6"
    ICH9 = "ich9"
    USB = "usb"
    ICH7 = "ich7"


class Codec(Element, tag="codec"):
    """A codec of an HDA card."""

    type: str = attr(
        "type",
        words("duplex", "micro", "output"),
        bad=unsupported("unknown codec type '{}'"),
        missing=lacking(ConfigUnsupported, "unknown codec type '(null)'"),
    )


class Sound(Device, tag="sound"):
    """A sound card."""

    model: SoundModel = attr("model", SoundModel)
    codecs: list[Codec] = children(Codec, default=[])
    audio_id: int | None = value("audio", "id", POSITIVE, default=None, needed=True)


class AudioType(StrEnum):
    """The backends."""

    NONE = "none"
    ALSA = "alsa"
    COREAUDIO = "coreaudio"
    JACK = "jack"
    OSS = "oss"
    PULSEAUDIO = "pulseaudio"
    SDL = "sdl"
    SPICE = "spice"
    FILE = "file"
    DBUS = "dbus"


class AudioSettings(Element, tag="settings"):
    """A fixed format."""

    frequency: int | None = attr("frequency", POSITIVE, default=None)
    channels: int | None = attr("channels", POSITIVE, default=None)
    format: str | None = attr("format", words("s8", "u8", "s16", "u16", "s32", "u32", "f32"), default=None)


class AudioDirection(Element, empty=Empty.OMIT):
    """One direction of sound."""

    mixing_engine: bool | None = attr("mixingEngine", YES_NO, default=None)
    fixed_settings: bool | None = attr("fixedSettings", YES_NO, default=None)
    voices: int | None = attr("voices", POSITIVE, default=None)
    buffer_length: int | None = attr("bufferLength", POSITIVE, default=None)
    dev: str | None = attr("dev", str, default=None)
    buffer_count: int | None = attr("bufferCount", SOME, default=None)
    try_poll: bool | None = attr("tryPoll", YES_NO, default=None)
    server_name: str | None = attr("serverName", str, default=None)
    client_name: str | None = attr("clientName", str, default=None)
    connect_ports: str | None = attr("connectPorts", str, default=None)
    exact_name: bool | None = attr("exactName", YES_NO, default=None)
    name: str | None = attr("name", str, default=None)
    stream_name: str | None = attr("streamName", str, default=None)
    latency: int | None = attr("latency", SOME, default=None)
    settings: AudioSettings | None = child(AudioSettings, default=None)


class AudioInput(AudioDirection, tag="input", empty=Empty.OMIT):
    """Sound into the guest."""


class AudioOutput(AudioDirection, tag="output", empty=Empty.OMIT):
    """Sound from the guest."""


class Audio(Element, tag="audio"):
    """Where a guest's sound goes."""

    id: int = attr(
        "id", POSITIVE, missing=lambda node: missing_attribute(node, "type" if "type" not in node.attrib else "id")
    )
    type: AudioType = attr("type", AudioType)
    timer_period_us: int | None = attr("timerPeriod", POSITIVE, default=None)
    try_mmap: bool | None = attr("tryMMap", YES_NO, default=None)
    exclusive: bool | None = attr("exclusive", YES_NO, default=None)
    dsp_policy: int | None = attr("dspPolicy", INT32, default=None)
    server_name: str | None = attr("serverName", str, default=None)
    driver: str | None = attr("driver", words("esd", "alsa", "arts", "pulseaudio"), default=None)
    path: str | None = attr("path", str, default=None)
    input: AudioInput | None = child(AudioInput, default=None)
    output: AudioOutput | None = child(AudioOutput, default=None)
