"""supervisord's event listener protocol."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warden.listener import LINE_MAX, Listener, ListenerError

PAYLOAD = b"processname:0 groupname:test from_state:STARTING pid:4711"
EVENT = b"ver:3.0 server:virtroupe serial:21 pool:warden poolserial:10 eventname:PROCESS_STATE_RUNNING len:%d\n%s" % (
    len(PAYLOAD),
    PAYLOAD,
)


def test_an_event_names_its_process() -> None:
    (notice,) = Listener().receive(EVENT)
    assert notice.kind == "PROCESS_STATE_RUNNING"
    assert notice.process == ("test", "0")
    assert notice.pid == 4711


@given(st.lists(st.integers(1, len(EVENT)), max_size=8))
def test_events_are_found_however_they_are_cut(cuts: list[int]) -> None:
    stream = EVENT * 3
    places = sorted({0, len(stream), *(cut * 3 for cut in cuts)})
    listener = Listener()
    notices = [n for a, b in itertools.pairwise(places) for n in listener.receive(stream[a:b])]
    assert [notice.pid for notice in notices] == [4711] * 3


def test_an_event_without_a_payload_is_an_event() -> None:
    (notice,) = Listener().receive(b"eventname:SUPERVISOR_STATE_CHANGE_STOPPING len:0\n")
    assert notice.kind == "SUPERVISOR_STATE_CHANGE_STOPPING"
    assert notice.process == ("", "")
    assert notice.pid == 0


@pytest.mark.parametrize(
    "data",
    [b"len:3\nabc", b"eventname:X\n", b"eventname:X len:-1\n", b"eventname:X len:99999999\n", b"x" * (LINE_MAX + 1)],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(ListenerError):
        Listener().receive(data)


def test_a_process_id_that_is_none_is_refused() -> None:
    (notice,) = Listener().receive(b"eventname:X len:5\npid:x")
    with pytest.raises(ListenerError):
        _ = notice.pid
