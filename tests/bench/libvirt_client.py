"""A libvirt client that measures what it is told to, on any URI, and prints JSON.

It needs the libvirt binding alone and runs under the system's Python (Debian: python3-libvirt), outside ours.
"""

import json
import multiprocessing
import sys
import time

import libvirt

libvirt.registerErrorHandler(lambda *_: None, None)


def domain_xml(name, kind, memory_mib=64):
    """A small guest."""
    return (
        f"<domain type='{kind}'><name>{name}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os><devices/></domain>"
    )


def drop(conn, name):
    """No guest of that name is left."""
    try:
        domain = conn.lookupByName(name)
    except libvirt.libvirtError:
        return
    if domain.isActive():
        domain.destroy()
    if domain.isPersistent():
        domain.undefine()


def timed(call, count, warm=50):
    """Seconds of each of `count` calls."""
    for _ in range(warm):
        call()
    values = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        values.append(time.perf_counter() - begin)
    return values


def latency(uri, count):
    """Round trips of cheap calls on the first guest of the URI."""
    conn = libvirt.open(uri)
    domain = conn.listAllDomains()[0]
    name = domain.name()
    calls = {
        "state": domain.state,
        "lookup by name": lambda: conn.lookupByName(name),
        "XML": lambda: domain.XMLDesc(0),
        "list": conn.listAllDomains,
        "info (forwarded)": domain.info,
        "max vcpus (forwarded)": lambda: conn.getMaxVcpus("hvm"),
    }
    return {what: timed(call, int(count)) for what, call in calls.items()}


def _hammer(uri, what, number, seconds, barrier, results):
    conn = libvirt.open(uri)
    name = f"bench-own-{number}"
    if what == "own info":
        drop(conn, name)
        domain = conn.createXML(domain_xml(name, "test"))
    else:
        domain = conn.listAllDomains()[0]
    call = {"state": domain.state, "info": domain.info, "own info": domain.info}[what]
    for _ in range(20):
        call()
    barrier.wait()
    end = time.perf_counter() + seconds
    calls = 0
    while time.perf_counter() < end:
        call()
        calls += 1
    results.put(calls)
    if what == "own info":
        drop(conn, name)


def throughput(uri, what, clients, seconds):
    """Calls per second of so many clients, each a process with one connection, in closed loops.

    `info` is of one guest for all of them, `own info` of one for each.
    """
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(int(clients) + 1), context.Queue()
    workers = [
        context.Process(target=_hammer, args=(uri, what, number, float(seconds), barrier, results))
        for number in range(int(clients))
    ]
    for worker in workers:
        worker.start()
    barrier.wait(60)
    calls = sum(results.get(timeout=60 + float(seconds)) for _ in workers)
    for worker in workers:
        worker.join(10)
    return calls / float(seconds)


def start(uri, count):
    """Seconds from define to running, and of destroy, of one guest after the other."""
    conn = libvirt.open(uri)
    running, destroyed = [], []
    for number in range(int(count) + 1):
        drop(conn, "bench-start")
        begin = time.perf_counter()
        domain = conn.defineXML(domain_xml("bench-start", "qemu"))
        domain.create()
        while domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            time.sleep(0.001)
        middle = time.perf_counter()
        time.sleep(0.2)
        begin_destroy = time.perf_counter()
        domain.destroy()
        if number:
            running.append(middle - begin)
            destroyed.append(time.perf_counter() - begin_destroy)
        domain.undefine()
    return {"running": running, "destroy": destroyed}


if __name__ == "__main__":
    print(json.dumps({"latency": latency, "throughput": throughput, "start": start}[sys.argv[1]](*sys.argv[2:])))
