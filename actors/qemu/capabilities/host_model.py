"""The named processor that comes nearest to the host's, for guests that ask for `host-model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conf.cpu.x86_map import X86Map

_NAMES: Final = {
    "cmp-legacy": "cmp_legacy",
    "ds-cpl": "ds_cpl",
    "fxsr-opt": "fxsr_opt",
    "kvm-pv-eoi": "kvm_pv_eoi",
    "kvm-pv-unhalt": "kvm_pv_unhalt",
    "lahf-lm": "lahf_lm",
    "nodeid-msr": "nodeid_msr",
    "pclmulqdq": "pclmuldq",
    "perfctr-core": "perfctr_core",
    "perfctr-nb": "perfctr_nb",
    "tsc-adjust": "tsc_adjust",
}
"""QEMU's names of features, and those of documents."""


def properties_of_expansion(properties: Mapping[str, bool | int | str]) -> dict[str, bool | int | str]:
    """A processor's properties under the names of documents."""
    return {_NAMES.get(name, name): value for name, value in properties.items()}
