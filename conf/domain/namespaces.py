"""What only one hypervisor understands: `<qemu:commandline>`, `<qemu:override>`, `<lxc:namespace>`, and the like."""

from conf.element import Element, Empty, attr, child, children, content
from conf.faults import lacking
from conf.values import words
from schema.errors import RefusedDocument, XmlError

QEMU = ("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
BHYVE = ("bhyve", "http://libvirt.org/schemas/domain/bhyve/1.0")
LXC = ("lxc", "http://libvirt.org/schemas/domain/lxc/1.0")
VMWARE = ("vmware", "http://libvirt.org/schemas/domain/vmware/1.0")
XEN = ("xen", "http://libvirt.org/schemas/domain/xen/1.0")


class QemuArgument(Element, tag="arg", namespace=QEMU):
    """A word of the command line."""

    value: str = attr("value", str, missing=lacking(RefusedDocument, "No qemu command-line argument specified"))


class QemuVariable(Element, tag="env", namespace=QEMU):
    """A variable of the environment."""

    name: str = attr("name", str, missing=lacking(RefusedDocument, "No qemu environment name specified"))
    value: str | None = attr("value", str, default=None)


class QemuCommandLine(Element, tag="commandline", namespace=QEMU, empty=Empty.OMIT):
    """Words and variables added to QEMU's command."""

    arguments: list[QemuArgument] = children(QemuArgument, default=[])
    variables: list[QemuVariable] = children(QemuVariable, default=[])


class AddedCapability(Element, tag="add", namespace=QEMU):
    """A capability QEMU is said to have."""

    capability: str = attr("capability", str, missing=lacking(RefusedDocument, "missing capability name"))


class RemovedCapability(Element, tag="del", namespace=QEMU):
    """A capability QEMU is said to lack."""

    capability: str = attr("capability", str, missing=lacking(RefusedDocument, "missing capability name"))


class QemuCapabilitiesOverride(Element, tag="capabilities", namespace=QEMU):
    """Corrects what was found out about QEMU."""

    added: list[AddedCapability] = children(AddedCapability, default=[])
    removed: list[RemovedCapability] = children(RemovedCapability, default=[])


class OverrideProperty(Element, tag="property", namespace=QEMU):
    """A property of a device."""

    name: str = attr("name", str, missing=lacking(XmlError, "missing 'name' attribute for qemu:property"))
    type: str = attr("type", words("string", "signed", "unsigned", "bool", "remove"))
    value: str | None = attr("value", str, default=None)


class OverrideFrontend(Element, tag="frontend", namespace=QEMU):
    """The guest's end of a device."""

    properties: list[OverrideProperty] = children(OverrideProperty, default=[])


class OverrideDevice(Element, tag="device", namespace=QEMU):
    """A device by alias."""

    alias: str = attr("alias", str, missing=lacking(XmlError, "missing 'alias' attribute for qemu:device"))
    frontends: list[OverrideFrontend] = children(OverrideFrontend, default=[])


class QemuOverride(Element, tag="override", namespace=QEMU, empty=Empty.OMIT):
    """Properties that replace libvirt's."""

    devices: list[OverrideDevice] = children(OverrideDevice, default=[])


class QemuDeprecation(Element, tag="deprecation", namespace=QEMU, empty=Empty.OMIT):
    """What QEMU does with deprecated use."""

    behavior: str | None = attr("behavior", str, default=None, blank=True)


class BhyveArgument(Element, tag="arg", namespace=BHYVE):
    """A word of bhyve's command line."""

    value: str = attr("value", str)


class BhyveCommandLine(Element, tag="commandline", namespace=BHYVE):
    """Words added to bhyve's command."""

    arguments: list[BhyveArgument] = children(BhyveArgument, default=[])


class LxcShare(Element):
    """A namespace of the kernel that a container shares with another one."""

    type: str = attr("type", words("none", "name", "pid", "netns"))
    value: str | None = attr("value", str, default=None)


class LxcShareNet(LxcShare, tag="sharenet", namespace=LXC):
    """The network."""


class LxcShareIpc(LxcShare, tag="shareipc", namespace=LXC):
    """Interprocess communication."""


class LxcShareUts(LxcShare, tag="shareuts", namespace=LXC):
    """The host name."""


class LxcNamespace(Element, tag="namespace", namespace=LXC):
    """What a container shares with another one."""

    sharenet: LxcShareNet | None = child(LxcShareNet, default=None)
    shareipc: LxcShareIpc | None = child(LxcShareIpc, default=None)
    shareuts: LxcShareUts | None = child(LxcShareUts, default=None)


class DataCenterPath(Element, tag="datacenterpath", namespace=VMWARE):
    """Where a guest lies in vSphere."""

    path: str | None = content(str, default=None)


class XenArgument(Element, tag="arg", namespace=XEN):
    """A word of the device model's command line."""

    value: str = attr("value", str)


class XenCommandLine(Element, tag="commandline", namespace=XEN):
    """Words added to the device model's command."""

    arguments: list[XenArgument] = children(XenArgument, default=[])
