"""The corpus' PCs, and domains of our own, as a real libvirtd with a real QEMU keeps them, beside `QemuRules`.

Both read the texts as new definitions. Our side uses the recorded dialogue of the QEMU version that Debian 12 has; the
test is skipped where another version is installed. Floors are in `data/libvirtd.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from actors.qemu.rules import QemuRules
from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags, XmlFlags
from schema.errors import VirtError
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.conformance.qemu_caps import capabilities_of_dialogue
from tests.shared import SHARED, need_shared, shared_json

FLOORS = Path(__file__).parent / "data" / "libvirtd.json"
OWN = Path(__file__).parents[1] / "roundtrip" / "domain"
VERSION = "7.2"
EMULATOR = "/usr/bin/qemu-system-x86_64"
_DOMAIN = re.compile(r"^<domain.*?^</domain>\n", re.DOTALL | re.MULTILINE)
_MADE_UP = re.compile(r"<mac address='[^']*'/>|<genid>[^<]*</genid>|(?:instanceid|interfaceid)='[^']*'")


def definitions() -> dict[str, str]:
    """The texts, each with a name and identity of its own and the host's emulator."""
    texts: dict[str, str] = {}
    for case in shared_json("corpus", "qemu", "manifest.json")["cases"]:
        path = str(case.get("input"))
        is_pc = case.get("object") == "domain" and case.get("domain", {}).get("arch") in ("x86_64", "i686")
        if is_pc and path.endswith(".xml") and case["kind"] in ("xml-roundtrip", "xml-to-argv"):
            texts[path] = (SHARED / "corpus" / path).read_text(encoding="utf-8")
    for path in sorted(OWN.glob("*.xml")):
        if not path.stem.endswith("-out"):
            texts[path.stem] = path.read_text(encoding="utf-8")
    for number, (name, text) in enumerate(texts.items()):
        text = re.sub(r"(<domain\b[^>]*?\btype=)(['\"])\w+\2", r"\1'qemu'", text, count=1)
        text = re.sub(r"<type arch=(['\"])\w+\1", "<type arch='x86_64'", text)
        text = re.sub(r"<emulator>[^<]*</emulator>", f"<emulator>{EMULATOR}</emulator>", text)
        text = re.sub(r"<uuid>[^<]*</uuid>", "", text, count=1)
        identity = f"<name>vt{number}</name><uuid>00000000-0000-4000-8000-{number:012x}</uuid>"
        texts[name] = re.sub(r"<name>[^<]*</name>", identity, text, count=1)
    return texts


def ask_libvirtd(texts: list[str], folder: Path) -> list[str]:
    """What libvirtd says of each: the definition that it keeps, or its error."""
    commands = []
    for number, text in enumerate(texts):
        (folder / f"{number}.xml").write_text(text, encoding="utf-8")
        commands.append(f"echo @@{number}\ndefine {folder}/{number}.xml\ndumpxml --inactive --security-info vt{number}")
        commands.append(f"undefine vt{number} --nvram")
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        with Libvirtd(base) as daemon:
            done = subprocess.run(
                ["virsh", "-q", "-c", daemon.uri("qemu:///system")],
                input="\n".join(commands) + "\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=100,
                check=False,
            )
    except CannotRun as exc:
        pytest.skip(str(exc))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return [part.partition("\n")[2] for part in re.split(r"^@@(?=\d+)", done.stdout, flags=re.MULTILINE)[1:]]


@pytest.mark.real
def test_new_definitions_are_kept_and_refused_as_by_libvirtd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("virsh") is None or not Path(EMULATOR).exists():
        pytest.skip("virsh or qemu-system-x86_64 is not installed")
    version = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    if f"version {VERSION}." not in version:
        pytest.skip(f"the recorded answers are those of QEMU {VERSION}")
    recorded = need_shared("corpus", "qemu-caps", "qemucapabilitiesdata", f"caps_{VERSION}.0.x86_64.replies")
    rules = QemuRules(
        capabilities_of_dialogue(recorded, EMULATOR),
        state_folder="/var/lib/libvirt/qemu",
        channel_folder="/var/lib/libvirt/qemu/channel/target",
        nvram_folder="/var/lib/libvirt/qemu/nvram",
    )
    texts = definitions()
    answers = ask_libvirtd(list(texts.values()), tmp_path)
    assert len(answers) == len(texts)
    counts: Counter[str] = Counter()
    odd: list[str] = []
    for (name, text), answer in zip(texts.items(), answers, strict=True):
        kept = _DOMAIN.search(answer)
        try:
            domain = parse_domain(text, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
            written, why = write_domain(domain, XmlFlags.INACTIVE | XmlFlags.SECURE), ""
        except VirtError as exc:
            written, why = "", str(exc)
        if kept is not None:
            outcome = "kept" if _MADE_UP.sub("", written) == _MADE_UP.sub("", kept.group(0)) else "differ"
        elif written:
            outcome = "accepted"
        else:
            errors = [line.removeprefix("error: ") for line in answer.splitlines() if line.startswith("error: ")]
            outcome = "refused" if any(why.startswith(error) for error in errors[1:2]) else "other words"
        counts[outcome] += 1
        if outcome not in ("kept", "refused"):
            odd.append(f"{name}: {outcome}")
    with capsys.disabled():
        print(f"\nagainst libvirtd: {dict(counts)}", end="")
    floors = json.loads(FLOORS.read_text(encoding="utf-8"))
    for outcome in ("kept", "refused"):
        assert counts[outcome] >= floors[outcome], "\n".join(odd)
