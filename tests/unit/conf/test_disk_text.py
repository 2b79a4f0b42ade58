"""What reading the text of a disk settles or refuses, in libvirt's words."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags
from schema.errors import VirtError

DOMAIN = (
    "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>"
    "<disk type='{type}' device='{device}'>{parts}<target dev='{name}'/></disk></devices></domain>"
)
SECRET = "uuid='0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'"


def read(parts: str, type: str = "file", device: str = "disk", name: str = "sda") -> str:
    text = DOMAIN.format(parts=parts, type=type, device=device, name=name)
    return write_domain(parse_domain(text, flags=ParseFlags.INACTIVE))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("<wwn>foo</wwn>", "Malformed wwn: foo"),
        ("<driver type='raw' rerror_policy='enospace'/>", "Invalid disk read error policy: 'enospace'"),
        ("<backingStore type='file'><source file='/y'/></backingStore>", "missing disk backing store format"),
        ("<backingStore type='file'><format type='raw'/></backingStore>", "missing disk backing store source"),
        ("<vendor>ABCDEFGHI</vendor>", "disk vendor is more than 8 characters"),
        ("<boot/>", "Missing required attribute 'order' in element 'boot'"),
        ("<geometry trans='x'/>", "Invalid value for attribute 'trans' in element 'geometry': 'x'."),
        (f"<encryption format='luks'><secret type='x' {SECRET}/></encryption>", "encryption secret type x"),
        (
            "<encryption format='luks'><secret type='passphrase'/></encryption>",
            "missing secret uuid or usage attribute",
        ),
        (
            f"<encryption format='luks'><secret type='passphrase' usage='a' {SECRET}/></encryption>",
            "either secret uuid or usage expected",
        ),
        (
            "<encryption format='luks'><secret type='passphrase' uuid='z'/></encryption>",
            "invalid secret uuid 'z'",
        ),
    ],
)
def test_what_is_wrong_with_a_disk_is_named(parts: str, words: str) -> None:
    with pytest.raises(VirtError) as caught:
        read(f"<source file='/x'/>{parts}")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("type", "source", "words"),
    [
        ("nvme", "<source type='pci' namespace='1'/>", "NVMe disk source is missing address"),
        ("nvme", "<source type='pci'/>", "missing 'namespace' attribute to disk source"),
        (
            "file",
            "<source file='/x'><slices><slice type='storage' size='1'/></slices></source>",
            "missing offset or size attribute of slice",
        ),
        (
            "block",
            "<source dev='/x'><reservations managed='no'/></source>",
            "missing connection type for <reservations/>",
        ),
        (
            "block",
            "<source dev='/x'><reservations managed='no'><source type='tcp' path='/s'/></reservations></source>",
            "unsupported connection type for <reservations/>: tcp",
        ),
        ("network", "<source protocol='nbd' name='x'><host port='1'/></source>", "missing name for host"),
        ("network", "<source protocol='nbd' name='x'><host name='h' port='y'/></source>", "parse port number 'y'"),
        ("network", "<source protocol='nbd' name='x'><host transport='unix'/></source>", "missing socket for unix"),
        (
            "network",
            "<source protocol='nbd' name='x'><host name='h' socket='/s'/></source>",
            "transport '(null)' does not support socket attribute",
        ),
        (
            "network",
            "<source protocol='https' name='x'><host name='h'/>"
            "<cookies><cookie name='a'>b;c</cookie></cookies></source>",
            "value of cookie 'a' contains invalid characters",
        ),
        (
            "network",
            "<source protocol='https' name='x'><host name='h'/><cookies><cookie name='a'/></cookies></source>",
            "missing value for cookie 'a'",
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_named(type: str, source: str, words: str) -> None:
    with pytest.raises(VirtError) as caught:
        read(source, type=type)
    assert words in caught.value.message


def test_a_disk_name_that_is_no_hard_disk_s_is_told_before_its_bus() -> None:
    with pytest.raises(VirtError, match="Invalid harddisk device name: fda"):
        read("<source file='/x'/>", name="fda")


def test_what_says_nothing_is_dropped() -> None:
    text = read(
        "<driver name='qemu' type='raw' queues='0'/><geometry cyls='1'/>"
        "<source file='/x'><slices><slice type='other' offset='1' size='2'/></slices></source>"
    )
    assert "<driver name='qemu' type='raw'/>" in text
    assert "geometry" not in text and "slice" not in text
