"""The corpus' domains as libvirt's own test driver, in the process of virsh, keeps and shows them, beside ours.

Every definition is made one of the test driver's; what virsh prints of it must be what we write, and what it refuses
must be refused here in the same words. Floors are in `data/virsh.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from actors.test.rules import TestRules
from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags, XmlFlags
from schema.errors import VirtError
from tests.shared import SHARED, shared_json

FLOORS = Path(__file__).parent / "data" / "virsh.json"
AREAS = ("domain", "qemu", "lxc", "bhyve", "xen")
_ROOT_TYPE = re.compile(r"(<domain\b[^>]*?\btype=)(['\"])\w+\2")
_ARCH = re.compile(r"<type arch=(['\"])\w+\1")
_DOMAIN = re.compile(r"^<domain.*?^</domain>\n", re.DOTALL | re.MULTILINE)
_MADE_UP = re.compile(r"<mac address='[^']*'/>|<genid>[^<]*</genid>|(?:instanceid|interfaceid)='[^']*'")


def definitions() -> dict[str, str]:
    """The domains of the corpus, made definitions of the test driver with names and identities of their own."""
    found: dict[str, str] = {}
    for area in AREAS:
        for case in shared_json("corpus", area, "manifest.json")["cases"]:
            path = case.get("input")
            is_domain = case.get("object") == "domain" and isinstance(path, str) and path.endswith(".xml")
            if not is_domain or path in found or case["kind"] not in ("xml-roundtrip", "xml-to-argv", "schema-valid"):
                continue
            number = len(found)
            text = (SHARED / "corpus" / path).read_text(encoding="utf-8", errors="replace")
            uuid = f"<uuid>00000000-0000-4000-8000-{number:012x}</uuid>"
            text = _ROOT_TYPE.sub(r"\1'test'", text, count=1)
            text = _ARCH.sub("<type arch='x86_64'", text)
            text = re.sub(r"<uuid>[^<]*</uuid>", "", text, count=1)
            found[path] = re.sub(r"<name>[^<]*</name>", f"<name>vt{number}</name>{uuid}", text, count=1)
    return found


def ask_virsh(virsh: str, texts: list[str], folder: Path) -> list[str]:
    """What virsh says of each: the definition that it keeps, or its error."""
    commands = []
    for number, text in enumerate(texts):
        (folder / f"{number}.xml").write_text(text, encoding="utf-8")
        commands.append(f"echo @@{number}\ndefine {folder}/{number}.xml\ndumpxml --inactive --security-info vt{number}")
    done = subprocess.run(
        [virsh, "-q", "-c", "test:///default"],
        input="\n".join(commands) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )
    return [part.partition("\n")[2] for part in re.split(r"^@@(?=\d+)", done.stdout, flags=re.MULTILINE)[1:]]


def ours(text: str) -> tuple[str | None, str]:
    """The definition as we write it, or why it is refused."""
    try:
        domain = parse_domain(text, TestRules(), ParseFlags.INACTIVE)
        return write_domain(domain, XmlFlags.INACTIVE | XmlFlags.SECURE), ""
    except VirtError as exc:
        return None, str(exc)


@pytest.mark.real
def test_definitions_are_kept_and_refused_as_by_libvirt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    virsh = shutil.which("virsh")
    if virsh is None:
        pytest.skip("virsh is not installed")
    texts = definitions()
    answers = ask_virsh(virsh, list(texts.values()), tmp_path)
    assert len(answers) == len(texts)
    counts: Counter[str] = Counter()
    odd: list[str] = []
    for (path, text), answer in zip(texts.items(), answers, strict=True):
        kept = _DOMAIN.search(answer)
        written, why = ours(text)
        if kept is not None:
            same = written is not None and _MADE_UP.sub("", written) == _MADE_UP.sub("", kept.group(0))
            outcome = "kept" if same else "differ"
        elif written is not None:
            outcome = "accepted"
        else:
            errors = [line.removeprefix("error: ") for line in answer.splitlines() if line.startswith("error: ")]
            outcome = "refused" if any(why.startswith(error) for error in errors[1:2]) else "other words"
        counts[outcome] += 1
        if outcome not in ("kept", "refused"):
            odd.append(f"{path}: {outcome}")
    with capsys.disabled():
        print(f"\nagainst virsh: {dict(counts)}", end="")
    floors = json.loads(FLOORS.read_text(encoding="utf-8"))
    for outcome in ("kept", "refused"):
        assert counts[outcome] >= floors[outcome], "\n".join(odd)
