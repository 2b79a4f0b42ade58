"""Sources of pools that lack what their kind needs."""

from __future__ import annotations

import pytest

from conf.storage.documents import parse_pool
from schema.enums.error import ErrorCode
from schema.errors import VirtError

_HOST = "<host name='h'/>"


@pytest.mark.parametrize(
    ("kind", "source", "code", "message"),
    [
        ("fs", "", ErrorCode.XML_ERROR, "missing storage pool source device name"),
        ("iscsi", "<device path='iqn'/>", ErrorCode.XML_ERROR, "missing storage pool source host name"),
        ("iscsi", _HOST + "<device/>", ErrorCode.XML_ERROR, "missing storage pool source device path"),
        ("iscsi", _HOST + "<auth username='u'/>", ErrorCode.CONFIG_UNSUPPORTED, "storage pool missing auth type"),
        ("iscsi", _HOST + "<auth type='chap' username='u'/>", ErrorCode.XML_ERROR, "Missing <secret> element in auth"),
        ("iscsi-direct", _HOST + "<device path='i'/>", ErrorCode.CONFIG_UNSUPPORTED, "missing initiator IQN"),
        ("rbd", _HOST, ErrorCode.XML_ERROR, "element 'name' is mandatory for RBD pool"),
        ("scsi", "", ErrorCode.XML_ERROR, "missing storage pool source adapter"),
        (
            "scsi",
            "<adapter type='scsi_host'/>",
            ErrorCode.XML_ERROR,
            "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter",
        ),
        (
            "scsi",
            "<adapter type='fc_host' wwnn='1'/>",
            ErrorCode.XML_ERROR,
            "'wwnn' and 'wwpn' must be specified for adapter type 'fchost'",
        ),
        (
            "scsi",
            "<adapter type='fc_host' wwnn='1' wwpn='10000000c9831b4b'/>",
            ErrorCode.INTERNAL_ERROR,
            "Malformed wwn: 1",
        ),
    ],
)
def test_sources_that_lack_a_part_are_refused(kind: str, source: str, code: ErrorCode, message: str) -> None:
    with pytest.raises(VirtError) as caught:
        parse_pool(
            f"<pool type='{kind}'><name>p</name><source>{source}</source><target><path>/p</path></target></pool>"
        )
    assert (caught.value.code, str(caught.value).endswith(message)) == (code, True), str(caught.value)
