"""What the host's settings mean for starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.qemu import host_options
from actors.qemu.command.launch import HugePageMount
from actors.qemu.host_options import certificates_of, find_huge_pages, verifies
from actors.qemu.live import password_commands
from conf.domain.documents import parse_domain
from conf.domain.graphics import GraphicsType
from schema.errors import ConfigUnsupported
from settings.qemu import QemuSettings


def test_certificates_of_a_use_come_before_those_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_options, "_PKI", tmp_path)
    settings = QemuSettings(tls_folder="/all", vnc_tls_folder="/of/vnc")
    (tmp_path / "libvirt-chardev").mkdir()
    (tmp_path / "libvirt-vnc").mkdir()
    assert [certificates_of(settings, use) for use in ("vnc", "chardev", "nbd")] == [
        "/of/vnc",
        str(tmp_path / "libvirt-chardev"),
        "/all",
    ]


@pytest.mark.parametrize(
    ("own", "common", "unset", "verified"),
    [(None, None, True, True), (None, None, False, False), (None, True, False, True), (False, True, True, False)],
)
def test_who_must_show_a_certificate(own: bool | None, common: bool | None, unset: bool, verified: bool) -> None:
    assert verifies(own, QemuSettings(tls_verify=common), unset=unset) is verified


def test_huge_pages_are_those_that_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts, memory = tmp_path / "mounts", tmp_path / "meminfo"
    page_kib = os.statvfs(tmp_path).f_bsize // 1024  # the size is asked of the file system
    folder = tmp_path / "pages"
    folder.mkdir()
    mounts.write_text(f"proc /proc proc rw 0 0\nhugetlbfs {folder} hugetlbfs rw 0 0\nnone {tmp_path} tmpfs rw 0 0\n")
    memory.write_text("MemTotal: 1 kB\nHugepagesize:       2048 kB\n")
    monkeypatch.setattr(host_options, "_MOUNTS", mounts)
    monkeypatch.setattr(host_options, "_MEMORY", memory)
    found = HugePageMount(page_kib, str(folder), is_default=False)
    assert find_huge_pages(None) == (found,)
    assert find_huge_pages((f"{folder}/",)) == (found,)
    assert find_huge_pages(()) == ()
    with pytest.raises(ConfigUnsupported, match="huge_page_folders: '/nowhere'"):
        find_huge_pages(("/nowhere",))


def test_a_display_without_password_gets_that_of_its_type() -> None:
    domain = parse_domain(
        """<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>
        <graphics type='vnc' passwd='own'/><graphics type='spice'/>
        <video><model type='vga'/></video></devices></domain>"""
    )
    usual = {GraphicsType.VNC: "v", GraphicsType.SPICE: "s"}
    asked = [arguments for name, arguments in password_commands(domain, usual) if name == "set_password"]
    assert asked == [{"protocol": "vnc", "password": "own"}, {"protocol": "spice", "password": "s"}]
    assert password_commands(domain, {})[0][1] == {"protocol": "vnc", "password": "own"}
