"""What reading the text of one device settles or refuses, in libvirt's words."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags
from schema.errors import VirtError

DOMAIN = (
    "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>{}</devices></domain>"
)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("<lease><target path='/x'/></lease>", "Missing 'key' element for lease"),
        ("<lease><key>a</key></lease>", "Missing 'target' element for lease"),
        ("<lease><key>a</key><target/></lease>", "Missing 'path' attribute to 'target' element for lease"),
        ("<redirfilter><usbdev class='256' allow='no'/></redirfilter>", "Invalid USB Class code 0x100"),
        ("<redirfilter><usbdev version='1' allow='no'/></redirfilter>", "Cannot parse USB device version 1"),
        ("<redirfilter><usbdev vendor='x' allow='no'/></redirfilter>", "'vendor' in element 'usbdev': 'x'"),
        ("<redirdev type='pty' bus='pci'/>", "unknown redirdev bus 'pci'"),
        ("<rng model='virtio'><backend model='egd'/></rng>", "missing EGD backend type"),
        ("<rng model='virtio'><rate bytes='x'/><backend model='random'/></rng>", "invalid RNG rate bytes value"),
        ("<smartcard mode='passthrough'/>", "passthrough mode requires a character device type attribute"),
        ("<smartcard mode='host-certificates'/>", "host-certificates mode needs exactly three certificates"),
        ("<shmem name='a'><msi/></shmem>", "msi option is only supported with a server"),
        ("<filesystem fmode='1777'><source dir='/a'/><target dir='b'/></filesystem>", "invalid fmode: '01777'"),
        ("<sound model='ich6'><acpi index='0'/></sound>", "'index' in element 'acpi': Zero is not permitted"),
    ],
)
def test_what_a_device_lacks_is_named(device: str, words: str) -> None:
    with pytest.raises(VirtError) as caught:
        parse_domain(DOMAIN.format(device), flags=ParseFlags.INACTIVE)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        (
            "<redirfilter><usbdev class='3' vendor='-1' product='10' version='1.1' allow='no'/></redirfilter>",
            "<usbdev class='0x03' product='0x000A' version='1.10' allow='no'/>",
        ),
        ("<sound model='ich6'><boot order='1'/><rom enabled='no' file='x'/></sound>", "<sound model='ich6'/>"),
        ("<rng model='virtio'><rate period='1'/><backend model='random'/></rng>", "<rng model='virtio'>\n      <ba"),
    ],
)
def test_what_a_device_does_not_have_is_dropped(device: str, kept: str) -> None:
    assert kept in write_domain(parse_domain(DOMAIN.format(device), flags=ParseFlags.INACTIVE))
