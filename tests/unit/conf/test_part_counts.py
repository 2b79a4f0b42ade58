"""Parts of a device of which a text has too many, and numbers that say nothing."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags
from schema.errors import VirtError

DOMAIN = (
    "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>{}</devices></domain>"
)
UDP = "<source mode='{}' host='h' service='1'/>"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("<serial type='pty'><source/><source/></serial>", "only one source element is allowed"),
        ("<serial type='udp'>" + UDP.format("bind") * 3 + "</serial>", "only two source elements are allowed"),
        ("<serial type='pty'><log file='/a'/><log file='/b'/></serial>", "only one log element is allowed"),
        ("<channel type='pty'><protocol/><protocol/></channel>", "only one protocol element is allowed"),
        ("<tpm><backend type='emulator'/><backend type='emulator'/></tpm>", "only one TPM backend is supported"),
        ("<channel type='pty'><target type='guestfwd' address='::1' port='1'/></channel>", "only supports IPv4"),
        ("<serial type='pty'><target port='x'/></serial>", "Invalid port number: x"),
        (
            "<serial type='tcp'><source host='h' service='1'><reconnect enabled='yes'/></source></serial>",
            "Missing required attribute 'timeout' in element 'reconnect'",
        ),
        ("<graphics type='vnc' passwd='a' connected='fail'/>", "VNC supports connected='keep' only"),
        ("<graphics type='spice'><image/></graphics>", "Missing required attribute 'compression' in element 'image'"),
        ("<video><model type='vga'><acceleration/></model></video>", "missing values for acceleration"),
    ],
)
def test_what_is_there_too_often_or_lacks_a_part_is_refused(device: str, words: str) -> None:
    with pytest.raises(VirtError) as caught:
        parse_domain(DOMAIN.format(device), flags=ParseFlags.INACTIVE)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        (
            "<serial type='tcp'><source host='h' service='1'><reconnect enabled='no' timeout='5'/></source></serial>",
            "<reconnect enabled='no'/>",
        ),
        ("<serial type='pty'><target port='-1'/></serial>", "<target port='0'/>"),
        ("<serial type='pty'/><serial type='pty'><target port='4294967291'/></serial>", "<target port='-5'/>"),
        (
            "<graphics type='spice'><channel name='main' mode='any'/><channel name='cursor' mode='secure'/>"
            "<channel name='display' mode='secure'/><channel name='cursor' mode='insecure'/></graphics>",
            "<channel name='display' mode='secure'/>\n      <channel name='cursor' mode='insecure'/>\n    </gr",
        ),
        ("<video><model type='qxl' ram='0' vram='0'/></video>", "<model type='qxl' ram='65536' vram='65536'"),
        ("<shmem name='a'><model type='ivshmem'/><size unit='M'>0</size></shmem>", "<model type='ivshmem'/>\n    </sh"),
        ("<controller type='scsi' index='1'/><controller type='scsi'/>", "<controller type='scsi' index='0'/>"),
        ("<controller type='scsi' ports='4' vectors='4'/>", "<controller type='scsi' index='0'/>"),
    ],
)
def test_numbers_that_say_nothing_are_dropped(device: str, kept: str) -> None:
    assert kept in write_domain(parse_domain(DOMAIN.format(device), flags=ParseFlags.INACTIVE))
