"""Status documents: what is kept, and what older texts lack."""

from __future__ import annotations

import pytest

from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.rules import QemuRules
from actors.qemu.status_document import QemuStatus, parse_status, write_status
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.errors import XmlError

DISK = """<disk type='network' device='disk'><auth username='u'><secret type='ceph' usage='s'/></auth>
<source protocol='rbd' name='p/i'><host name='h'/>{private}</source><target dev='vda' bus='virtio'/>
<alias name='virtio-disk0'/></disk>"""


def status_of(parts: str = "", devices: str = "") -> QemuStatus:
    capabilities = Capabilities(
        emulator="/usr/bin/qemu",
        version=(8, 0, 0),
        package="",
        arch="x86_64",
        kvm=False,
        machines=(Machine(name="pc"),),
        cpus={},
        flags=frozenset(),
    )
    xml = f"""<domstatus state='running' reason='booted' pid='7'>{parts}<domain type='qemu' id='1'><name>a</name>
    <memory>1024</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>
    </domstatus>"""
    return parse_status(xml, QemuRules(capabilities, state_folder="/s", channel_folder="/c"))


def test_what_was_kept_is_written_again() -> None:
    status = status_of(
        "<taint flag='host-cpu'/><monitor path='/m' type='unix'/><vcpus><vcpu id='0' pid='8'/></vcpus>"
        "<blockjobs active='yes'><blockjob name='j' type='pull' state='running'><disk dst='vda'/></blockjob>"
        "</blockjobs>"
    )
    text = write_status(status)
    assert "<taint flag='host-cpu'/>\n  <monitor path='/m' type='unix'/>\n  <vcpus>" in text
    assert "<blockjob name='j' type='pull' state='running'>\n      <disk dst='vda'/>" in text
    assert parse_status(text, QemuRules(_caps(status), state_folder="/s", channel_folder="/c")) == status


def _caps(status: QemuStatus) -> Capabilities:
    return Capabilities(
        emulator=status.domain.devices.emulator or "",
        version=(8, 0, 0),
        package="",
        arch="x86_64",
        kvm=False,
        machines=(Machine(name="pc"),),
        cpus={},
        flags=frozenset(),
    )


def test_older_texts_get_folders_and_names_of_secrets() -> None:
    status = status_of(devices=DISK.format(private=""))
    assert (status.folder, status.channel_folder) == ("/s/domain-a", "/c/domain-a")
    assert "<secret type='auth' alias='virtio-disk0-secret0'/>" in write_status(status)


def test_names_that_are_kept_stay() -> None:
    private = "<privateData><objects><secret type='auth' alias='mine'/></objects></privateData>"
    text = write_status(status_of(devices=DISK.format(private=private)))
    assert "alias='mine'" in text and "secret0" not in text


def test_nobody_else_sees_what_the_status_keeps() -> None:
    status = status_of(devices=DISK.format(private=""))
    for flags in (XmlFlags.NONE, XmlFlags.SECURE, XmlFlags.INACTIVE):
        assert "privateData" not in write_domain(status.domain, flags)


def test_a_status_without_guest_is_refused() -> None:
    with pytest.raises(XmlError, match="Missing required element 'domain'"):
        parse_status(
            "<domstatus state='running' reason='booted' pid='7'/>",
            QemuRules(_caps(status_of()), state_folder="/s", channel_folder="/c"),
        )
