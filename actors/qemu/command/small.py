"""Devices of a line or two: input, hubs, watchdog, balloon, random numbers, panic notifier, vsock, TPM, IOMMU."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.chardevs import add_chardev
from actors.qemu.command.device import add_device, address_properties, simple_device, virtio_driver, virtio_properties
from actors.qemu.command.launch import Launch, alias_of, is_arm_virt
from actors.qemu.command.line import CommandLine, Properties, comma_doubled
from conf.domain.address import IsaAddress, SpaprVioAddress
from conf.domain.chardev_users import Tpm, TpmModel
from conf.domain.small_devices import Input, InputBus, InputType, PanicModel, WatchdogAction
from schema.errors import ConfigUnsupported

_INPUT_NAMES: Final = {InputType.MOUSE: "mouse", InputType.TABLET: "tablet", InputType.KEYBOARD: "keyboard"}
_USB_INPUTS: Final = {
    InputType.MOUSE: "usb-mouse",
    InputType.TABLET: "usb-tablet",
    InputType.KEYBOARD: "usb-kbd",
}
_VIRTIO_INPUTS: Final = {**_INPUT_NAMES, InputType.PASSTHROUGH: "input-host"}


def add_hubs(launch: Launch, line: CommandLine) -> None:
    """USB hubs."""
    for hub in launch.domain.devices.hubs:
        line.add_json("-device", simple_device(launch, "usb-hub", hub))


def add_inputs(launch: Launch, line: CommandLine) -> None:
    """Input devices that are no part of the machine."""
    for one in launch.domain.devices.inputs:
        if one.type is InputType.EVDEV:
            line.add_json("-object", _evdev(one))
        elif one.bus is InputBus.USB:
            line.add_json("-device", simple_device(launch, _USB_INPUTS[one.type], one))
        elif one.bus is InputBus.VIRTIO:
            add_device(launch, line, one, _virtio_input(launch, one))


def _evdev(one: Input) -> Properties:
    source = one.source
    if source is None:
        raise ConfigUnsupported("missing evdev path for input device passthrough")
    return {
        "qom-type": "input-linux",
        "id": alias_of(one),
        "evdev": source.evdev or source.dev,
        "repeat": source.repeat,
        "grab_all": True if source.grab == "all" else None,
        "grab-toggle": source.grab_toggle,
    }


def _virtio_input(launch: Launch, one: Input) -> Properties:
    name = _VIRTIO_INPUTS[one.type]
    base = f"virtio-{name}"
    evdev = one.source.evdev if one.source is not None and one.type is InputType.PASSTHROUGH else None
    return {
        "driver": virtio_driver(launch, base, one, one.model),
        **virtio_properties(one.driver),
        "id": alias_of(one),
        "evdev": evdev,
        **address_properties(launch, one),
    }


_ACTIONS: Final = {WatchdogAction.DUMP: "pause"}


def add_watchdog(launch: Launch, line: CommandLine) -> None:
    """The watchdog and what it does; a dump is made by us while the guest is paused."""
    watchdog = launch.domain.devices.watchdog
    if watchdog is None:
        return
    if watchdog.model == "itco":
        line.add("-global", "ICH9-LPC.noreboot=off")
    else:
        add_device(launch, line, watchdog, simple_device(launch, watchdog.model, watchdog))
    line.add("-watchdog-action", _ACTIONS.get(watchdog.action, watchdog.action.value))


def add_balloon(launch: Launch, line: CommandLine) -> None:
    """The memory balloon."""
    balloon = launch.domain.devices.memballoon
    if balloon is None or balloon.model in ("none", "xen"):
        return
    properties: Properties = {
        "driver": virtio_driver(launch, "virtio-balloon", balloon, balloon.model),
        **virtio_properties(balloon.driver),
        "id": alias_of(balloon),
    }
    if balloon.autodeflate is not None:
        properties["deflate-on-oom"] = balloon.autodeflate
    if balloon.free_page_reporting is not None:
        properties["free-page-reporting"] = balloon.free_page_reporting
    add_device(launch, line, balloon, {**properties, **address_properties(launch, balloon)})


def add_rngs(launch: Launch, line: CommandLine) -> None:
    """Random number generators and their sources."""
    for rng in launch.domain.devices.rngs:
        alias = alias_of(rng)
        backend = rng.backend
        if backend.model == "egd":
            add_chardev(launch, line, backend, f"char{alias}", alias)
            line.add_json("-object", {"qom-type": "rng-egd", "id": f"obj{alias}", "chardev": f"char{alias}"})
        elif backend.model == "builtin":
            line.add_json("-object", {"qom-type": "rng-builtin", "id": f"obj{alias}"})
        else:
            path = backend.path or "/dev/random"
            line.add_json("-object", {"qom-type": "rng-random", "id": f"obj{alias}", "filename": path})
        properties: Properties = {
            "driver": virtio_driver(launch, "virtio-rng", rng, rng.model.value),
            **virtio_properties(rng.driver),
            "rng": f"obj{alias}",
            "id": alias,
        }
        if rng.rate is not None and rng.rate.bytes:
            properties["max-bytes"] = rng.rate.bytes
            properties["period"] = rng.rate.period_ms or 1000
        add_device(launch, line, rng, {**properties, **address_properties(launch, rng)})


def add_cryptos(launch: Launch, line: CommandLine) -> None:
    """Crypto accelerators and who computes for them."""
    for crypto in launch.domain.devices.cryptos:
        alias = alias_of(crypto)
        backend = crypto.backend
        model = backend.model if backend is not None else "builtin"
        queues = backend.queues if backend is not None else None
        line.add_json("-object", {"qom-type": f"cryptodev-backend-{model}", "id": f"obj{alias}", "queues": queues})
        properties: Properties = {
            "driver": virtio_driver(launch, "virtio-crypto", crypto, None),
            **virtio_properties(crypto.driver),
            "cryptodev": f"obj{alias}",
            "id": alias,
        }
        add_device(launch, line, crypto, {**properties, **address_properties(launch, crypto)})


def add_panics(launch: Launch, line: CommandLine) -> None:
    """Panic notifiers; Hyper-V's is a feature of the processor."""
    for panic in launch.domain.devices.panics:
        if panic.model in (PanicModel.ISA, PanicModel.DEFAULT, None):
            properties: Properties = {"driver": "pvpanic"}
            if isinstance(panic.address, IsaAddress) and panic.address.iobase is not None:
                properties["ioport"] = panic.address.iobase
            line.add_json("-device", properties)


def add_vsock(launch: Launch, line: CommandLine) -> None:
    """Sockets between host and guest."""
    vsock = launch.domain.devices.vsock
    if vsock is None:
        return
    wanted = vsock.cid.address if vsock.cid is not None else None
    descriptor, cid = launch.host.vhost_vsock(None if vsock.cid is not None and vsock.cid.auto else wanted)
    properties: Properties = {
        "driver": virtio_driver(launch, "vhost-vsock", vsock, vsock.model),
        **virtio_properties(vsock.driver),
        "id": alias_of(vsock),
        "guest-cid": cid,
        "vhostfd": str(descriptor),
    }
    add_device(launch, line, vsock, {**properties, **address_properties(launch, vsock)})


def add_iommu(launch: Launch, line: CommandLine) -> None:
    """The IOMMU that the guest sees; it comes before the devices behind it."""
    iommu = launch.domain.devices.iommu
    if iommu is None or iommu.model == "smmuv3":
        return
    if iommu.model == "virtio":
        add_device(launch, line, iommu, simple_device(launch, "virtio-iommu", iommu))
        return
    properties: Properties = {"driver": "intel-iommu", "id": alias_of(iommu)}
    if iommu.driver is not None:
        if iommu.driver.intremap is not None:
            properties["intremap"] = "on" if iommu.driver.intremap else "off"
        properties["caching-mode"] = iommu.driver.caching_mode
        if iommu.driver.eim is not None:
            properties["eim"] = "on" if iommu.driver.eim else "off"
        properties["device-iotlb"] = iommu.driver.iotlb
        properties["aw-bits"] = iommu.driver.aw_bits or None
    line.add_json("-device", properties)


def add_tpms(launch: Launch, line: CommandLine) -> None:
    """TPMs. Raises ConfigUnsupported for a model the emulator does not have."""
    for tpm in launch.domain.devices.tpms:
        _add_tpm(launch, line, tpm)


def _add_tpm(launch: Launch, line: CommandLine, tpm: Tpm) -> None:
    alias = alias_of(tpm)
    if tpm.model is TpmModel.SPAPR_PROXY:
        path = tpm.backend.device or "/dev/tpmrm0"
        line.add_json("-device", {"driver": "spapr-tpm-proxy", "id": alias, "host-path": path})
        return
    name = f"tpm-{alias}"
    model = tpm.model.value if tpm.model is not None else "tpm-tis"
    if not launch.caps.has(model):
        raise ConfigUnsupported(f"The QEMU executable {launch.caps.emulator} does not support TPM model {model}")
    backend = tpm.backend
    if backend.type == "passthrough":
        device = backend.device or "/dev/tpm0"
        first, second = launch.next_fdset(), launch.next_fdset()
        node = launch.host.open_device(device, "tpm")
        cancel = launch.host.open_device(device, "tpm-cancel")
        line.add("-add-fd", f"set={first},fd={node},opaque={alias}-tpm")
        line.add("-add-fd", f"set={second},fd={cancel},opaque={alias}-cancel")
        line.add("-tpmdev", f"passthrough,id={name},path=/dev/fdset/{first},cancel-path=/dev/fdset/{second}")
    else:
        if backend.type == "external":
            path = (backend.source.path if backend.source is not None else None) or ""
        else:
            path = launch.host.tpm_socket(alias)
        line.add("-chardev", f"socket,id=chrtpm,path={comma_doubled(path)}")
        line.add("-tpmdev", f"emulator,id={name},chardev=chrtpm")
    # ARM's machine has the memory of a TPM elsewhere than a PC
    driver = "tpm-tis-device" if model == "tpm-tis" and is_arm_virt(launch.arch, launch.machine) else model
    line.add_json("-device", {"driver": driver, "tpmdev": name, "id": alias, **address_properties(launch, tpm)})


def add_generation_id(launch: Launch, line: CommandLine) -> None:
    """The number that changes whenever the guest is set back."""
    genid = launch.domain.genid
    if genid is not None:
        line.add_json("-device", {"driver": "vmgenid", "guid": str(genid), "id": "vmgenid0"})


def add_variables(launch: Launch, line: CommandLine) -> None:
    """Where POWER's firmware finds its variables."""
    nvram = launch.domain.devices.nvram
    if nvram is None:
        return
    if not isinstance(nvram.address, SpaprVioAddress) or nvram.address.reg is None:
        raise ConfigUnsupported("nvram address type must be spaprvio")
    line.add("-global", f"spapr-nvram.reg={nvram.address.reg:#x}")


def add_core_info(launch: Launch, line: CommandLine) -> None:
    """A place where the guest tells how its memory is to be dumped."""
    features = launch.domain.features
    if features is not None and features.vmcoreinfo is not None and features.vmcoreinfo.state is not False:
        line.add_json("-device", {"driver": "vmcoreinfo"})
