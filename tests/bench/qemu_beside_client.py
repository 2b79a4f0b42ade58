"""A libvirt client that starts, asks and ends real guests, and freezes one of them.

As `libvirt_client`, it needs the libvirt binding alone and runs under the system's Python.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import time

import libvirt

libvirt.registerErrorHandler(lambda *_: None, None)

PREFIX = "bench-real-"


def _definition(number):
    """A guest whose firmware finds nothing to boot."""
    return (
        f"<domain type='qemu'><name>{PREFIX}{number}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>"
        "<controller type='usb' model='none'/><serial type='pty'/><memballoon model='virtio'/></devices></domain>"
    )


def _timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _all_at_once(calls):
    """Seconds until all have come back; the first error of any is raised."""
    errors = []

    def run(call):
        try:
            call()
        except libvirt.libvirtError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if errors:
        raise errors[0]
    return seconds


def one(uri, rounds):
    """Seconds from define to running, and to gone, one guest after the other; the first is for warming up."""
    conn = libvirt.open(uri)
    found = {"start": [], "destroy": []}
    for number in range(int(rounds) + 1):
        begin = time.perf_counter()
        domain = conn.defineXML(_definition(number))
        domain.create()
        while domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            time.sleep(0.001)
        started = time.perf_counter() - begin
        time.sleep(0.3)
        ended = _timed(domain.destroy)
        domain.undefine()
        if number:
            found["start"].append(started)
            found["destroy"].append(ended)
    return found


def together(uri, count, rounds):
    """Seconds for so many guests to run, and to be gone, each by a connection of its own."""
    conns = [libvirt.open(uri) for _ in range(int(count))]
    found = {"start": [], "destroy": []}
    for _ in range(int(rounds)):
        domains = [conn.defineXML(_definition(number)) for number, conn in enumerate(conns)]
        found["start"].append(_all_at_once([domain.create for domain in domains]))
        time.sleep(1)
        found["destroy"].append(_all_at_once([domain.destroy for domain in domains]))
        for domain in domains:
            domain.undefine()
    return found


def statistics(uri, count, rounds):
    """Seconds for all statistics of so many running guests, and for how many of them there were any of the monitor."""
    conn = libvirt.open(uri)
    domains = [conn.defineXML(_definition(number)) for number in range(int(count))]
    for domain in domains:
        domain.create()
    time.sleep(2)
    times = [_timed(conn.getAllDomainStats) for _ in range(int(rounds))]
    whole = sum(1 for _, told in conn.getAllDomainStats() if "balloon.rss" in told)
    for domain in domains:
        domain.destroy()
        domain.undefine()
    return {"times": times, "whole": whole}


def _process_of(domain):
    """The pid of a guest's emulator, by the uuid in its command line."""
    mark = domain.UUIDString().encode()
    for folder in pathlib.Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu" in words[0] and any(mark in word for word in words):
            return int(folder.name)
    raise LookupError(domain.name())


def _probe(calls, seconds, pause):
    """The times of a few calls that are made again and again, each kind by a thread of its own."""
    times = {name: [] for name in calls}
    end = time.monotonic() + seconds

    def ask(name, call):
        while time.monotonic() < end:
            times[name].append(_timed(call))
            time.sleep(pause)

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 40)
    return times


def isolation(uri, stuck, seconds):
    """Times of calls for another guest, before and while a frozen guest is asked by several clients."""
    conn = libvirt.open(uri)
    victim, other = (conn.defineXML(_definition(name)) for name in ("victim", "other"))
    victim.create()
    other.create()
    time.sleep(2)
    pid = _process_of(victim)
    mine = {name: libvirt.open(uri).lookupByName(other.name()) for name in ("info", "memory statistics", "description")}
    calls = {
        "info": mine["info"].info,
        "memory statistics": mine["memory statistics"].memoryStats,
        "description": mine["description"].XMLDesc,
    }
    asking = [libvirt.open(uri).lookupByName(victim.name()) for _ in range(int(stuck))]
    before = _probe(calls, float(seconds), 0.01)
    stop = threading.Event()

    def ask(domain):
        while not stop.is_set():
            try:
                domain.memoryStats()
            except libvirt.libvirtError:
                time.sleep(0.05)

    os.kill(pid, signal.SIGSTOP)
    try:
        threads = [threading.Thread(target=ask, args=(domain,), daemon=True) for domain in asking]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        during = _probe(calls, float(seconds), 0.01)
        ended = _timed(victim.destroy)
    finally:
        stop.set()
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    for domain in (victim, other):
        try:
            domain.destroy()
        except libvirt.libvirtError:
            pass
        domain.undefine()
    return {"before": before, "during": during, "destroy": ended}


if __name__ == "__main__":
    works = {"one": one, "together": together, "statistics": statistics, "isolation": isolation}
    print(json.dumps(works[sys.argv[1]](*sys.argv[2:])))
