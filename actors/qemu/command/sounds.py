"""Where sound goes (`-audiodev`) and the cards it comes from."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.device import add_device, address_properties
from actors.qemu.command.launch import Launch, alias_of
from actors.qemu.command.line import CommandLine, Properties
from conf.domain.sound import Audio, AudioDirection, AudioType, Sound, SoundModel

_BACKENDS: Final = {AudioType.PULSEAUDIO: "pa", AudioType.FILE: "wav"}
_HDA: Final = {
    SoundModel.ICH6: "intel-hda",
    SoundModel.ICH9: "ich9-intel-hda",
}
_CARDS: Final = {SoundModel.ES1370: "ES1370", SoundModel.AC97: "AC97", SoundModel.USB: "usb-audio"}
_WITHOUT_SOUNDHW: Final = (7, 1, 0)
_OTHER: Final = {SoundModel.SB16: "sb16"}


def add_audios(launch: Launch, line: CommandLine) -> None:
    """All backends."""
    for audio in launch.domain.devices.audios:
        line.add_json("-audiodev", _backend(launch, line, audio))


def _backend(launch: Launch, line: CommandLine, audio: Audio) -> Properties:
    properties: Properties = {
        "id": f"audio{audio.id}",
        "driver": _BACKENDS.get(audio.type, audio.type.value),
        "timer-period": audio.timer_period_us,
    }
    if audio.type is AudioType.OSS:
        properties["try-mmap"] = audio.try_mmap
        properties["exclusive"] = audio.exclusive
        properties["dsp-policy"] = audio.dsp_policy
    elif audio.type is AudioType.PULSEAUDIO:
        properties["server"] = audio.server_name
    elif audio.type is AudioType.FILE:
        properties["path"] = audio.path
    elif audio.type is AudioType.SDL and audio.driver is not None:
        line.environment["SDL_AUDIODRIVER"] = audio.driver
    for name, direction in (("in", audio.input), ("out", audio.output)):
        if direction is not None:
            part = {key: value for key, value in _direction(direction).items() if value is not None}
            properties[name] = part or None
    return properties


def _direction(one: AudioDirection) -> Properties:
    settings = one.settings
    return {
        "mixing-engine": one.mixing_engine,
        "fixed-settings": one.fixed_settings,
        "voices": one.voices,
        "buffer-length": one.buffer_length,
        "frequency": settings.frequency if settings is not None else None,
        "channels": settings.channels if settings is not None else None,
        "format": settings.format if settings is not None else None,
        "dev": one.dev,
        "buffer-count": one.buffer_count,
        "try-poll": one.try_poll,
        "server-name": one.server_name,
        "client-name": one.client_name,
        "connect-ports": one.connect_ports,
        "exact-name": one.exact_name,
        "name": one.name,
        "stream-name": one.stream_name,
        "latency": one.latency,
    }


def add_sounds(launch: Launch, line: CommandLine) -> None:
    """All cards."""
    for sound in launch.domain.devices.sounds:
        _add_card(launch, line, sound)


def _add_card(launch: Launch, line: CommandLine, sound: Sound) -> None:
    audio = _audio_of(launch, sound)
    if sound.model is SoundModel.PCSPK:
        if launch.caps.version < _WITHOUT_SOUNDHW:
            line.add("-soundhw", "pcspk")
        else:
            line.add("-machine", f"pcspk-audiodev={audio}")
        return
    alias = alias_of(sound)
    if sound.model in _HDA:
        driver = _HDA[sound.model]
        add_device(launch, line, sound, {"driver": driver, "id": alias, **address_properties(launch, sound)})
        kinds = [codec.type for codec in sound.codecs] or ["duplex"]
        for number, kind in enumerate(kinds):
            codec = {
                "driver": f"hda-{kind}",
                "id": f"{alias}-codec{number}",
                "bus": f"{alias}.0",
                "cad": number,
                "audiodev": audio,
            }
            line.add_json("-device", codec)
        return
    driver = {**_CARDS, **_OTHER}.get(sound.model, sound.model.value)
    card = {"driver": driver, "id": alias, "audiodev": audio, **address_properties(launch, sound)}
    add_device(launch, line, sound, card)


def _audio_of(launch: Launch, sound: Sound) -> str | None:
    if sound.audio_id:
        return f"audio{sound.audio_id}"
    audios = launch.domain.devices.audios
    return f"audio{audios[0].id}" if audios else None
