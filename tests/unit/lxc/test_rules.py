"""What containers add to definitions."""

from __future__ import annotations

from actors.lxc.rules import LxcRules
from conf.domain.documents import parse_domain, write_domain
from conf.domain.rules import GENERIC_RULES

CONTAINER = (
    "<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'><name>c</name><memory>1</memory>"
    "<os><type{}>exe</type><init>/bin/sh</init></os><lxc:namespace><lxc:sharenet type='netns' value='red'/>"
    "</lxc:namespace></domain>"
)


def test_containers_have_the_architecture_of_the_host() -> None:
    assert "<type arch='riscv64'>exe</type>" in write_domain(parse_domain(CONTAINER.format(""), LxcRules("riscv64")))


def test_namespaces_are_shared() -> None:
    text = write_domain(parse_domain(CONTAINER.format(""), LxcRules()))
    assert text.endswith(
        "  <lxc:namespace>\n    <lxc:sharenet type='netns' value='red'/>\n  </lxc:namespace>\n</domain>\n"
    )


def test_other_drivers_do_not_keep_them() -> None:
    assert "lxc:" not in write_domain(parse_domain(CONTAINER.format(" arch='x86_64'"), GENERIC_RULES))
