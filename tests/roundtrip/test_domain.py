"""Domains of our own, read and written: `<feature>.xml` to `<feature>-out.xml`, or refused with `<feature>.err`.

The results are what the test driver of libvirt 9.0 makes of the same texts. With VIRTROUPE_REWRITE_GOLDEN=1 they are
written anew from what comes out here; read the difference before keeping it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags, XmlFlags
from schema.errors import VirtError

FOLDER = Path(__file__).parent / "domain"
FEATURES = sorted(path.stem for path in FOLDER.glob("*.xml") if not path.stem.endswith("-out"))
REWRITE = os.environ.get("VIRTROUPE_REWRITE_GOLDEN") == "1"


class GoldenRules(DomainRules):
    """The fake host of the test driver, without its own names for interfaces."""

    default_arch = "i686"

    def random_bytes(self, count: int) -> bytes:
        return bytes(range(count))


@pytest.mark.parametrize("feature", FEATURES)
def test_domain_is_kept_or_refused(feature: str) -> None:
    source = (FOLDER / f"{feature}.xml").read_bytes()
    golden, refusal = FOLDER / f"{feature}-out.xml", FOLDER / f"{feature}.err"
    try:
        domain = parse_domain(source, GoldenRules(), ParseFlags.INACTIVE)
        written = write_domain(domain, XmlFlags.INACTIVE | XmlFlags.SECURE)
    except VirtError as exc:
        if REWRITE:
            golden.unlink(missing_ok=True)
            refusal.write_text(f"{exc}\n", encoding="utf-8")
        assert refusal.exists(), f"refused: {exc}"
        assert str(exc).startswith(refusal.read_text(encoding="utf-8").rstrip("\n"))
        return
    if REWRITE:
        refusal.unlink(missing_ok=True)
        golden.write_text(written, encoding="utf-8")
    assert golden.exists(), "this domain should have been refused"
    assert written == golden.read_text(encoding="utf-8")


def test_there_are_results_for_nothing_else() -> None:
    results = {path.name.removesuffix("-out.xml") for path in FOLDER.glob("*-out.xml")}
    results |= {path.name.removesuffix(".err") for path in FOLDER.glob("*.err")}
    assert results == set(FEATURES)
