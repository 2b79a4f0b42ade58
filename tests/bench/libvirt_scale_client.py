"""A libvirt client for large numbers: ten thousand guests, a hundred subscribers, five hundred connections.

As `libvirt_client`, it needs the libvirt binding alone and runs under the system's Python.
"""

import json
import multiprocessing
import sys
import threading
import time

import libvirt

libvirt.registerErrorHandler(lambda *_: None, None)

PREFIX = "bench-many-"
GUEST = "test"


def _best(call, times):
    values = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        values.append(time.perf_counter() - begin)
    return sorted(values)[len(values) // 2]


def _definition(kind, number):
    return (
        f"<domain type='{kind}'><name>{PREFIX}{number}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os><devices/></domain>"
    )


def many(uri, kind, count):
    """Seconds to define so many guests, to list them all, and to ask for their statistics."""
    conn = libvirt.open(uri)
    begin = time.perf_counter()
    for number in range(int(count)):
        conn.defineXML(_definition(kind, number))
    found = {"define": time.perf_counter() - begin}
    assert len(conn.listAllDomains()) >= int(count)
    found["list"] = _best(conn.listAllDomains, 7)
    found["statistics"] = _best(conn.getAllDomainStats, 5)
    for domain in conn.listAllDomains():
        if domain.name().startswith(PREFIX):
            domain.undefine()
    return found


def _listen(uri, subscribers, ready, stop, results):
    libvirt.virEventRegisterDefaultImpl()
    got = [[] for _ in range(subscribers)]

    def told(conn, domain, event, detail, place):
        got[place].append(time.monotonic())

    conns = []
    for place in range(subscribers):
        conn = libvirt.open(uri)
        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, told, place)
        conns.append(conn)

    def pump():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=pump, daemon=True).start()
    ready.release()
    stop.wait()
    results.put(got)
    results.close()
    results.join_thread()


def _change(uri, pairs, pause, pipe):
    domain = libvirt.open(uri).lookupByName(GUEST)
    calls = []
    for _ in range(pairs):
        for change in (domain.suspend, domain.resume):
            calls.append(time.monotonic())
            change()
            time.sleep(pause)
    pipe.send(calls)


def _with_subscribers(uri, subscribers, pairs, pause):
    context = multiprocessing.get_context("fork")
    processes = min(4, subscribers)
    ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()
    shares = [subscribers // processes + (place < subscribers % processes) for place in range(processes)]
    listeners = [context.Process(target=_listen, args=(uri, share, ready, stop, results)) for share in shares]
    for listener in listeners:
        listener.daemon = True
        listener.start()
    for _ in listeners:
        assert ready.acquire(timeout=120)
    time.sleep(1)
    reader, writer = context.Pipe(False)
    changer = context.Process(target=_change, args=(uri, pairs, pause, writer))
    begin = time.monotonic()
    changer.start()
    calls = reader.recv()
    seconds = time.monotonic() - begin
    changer.join()
    time.sleep(2)
    stop.set()
    heard = [times for _ in listeners for times in results.get(timeout=60)]
    for listener in listeners:
        listener.join(10)
    return calls, heard, seconds


def events(uri, subscribers):
    """Seconds from each change to the last of so many subscribers; the calls per second when nobody pauses; losses."""
    calls, heard, _ = _with_subscribers(uri, int(subscribers), 40, 0.02)
    whole = [times for times in heard if len(times) == len(calls)]
    last = [max(times[place] for times in whole) - begin for place, begin in enumerate(calls)] if whole else []
    burst, told, seconds = _with_subscribers(uri, int(subscribers), 150, 0)
    lost = sum(len(calls) - len(times) for times in heard) + sum(len(burst) - len(times) for times in told)
    return {"last": last, "calls": len(burst) / seconds, "lost": lost}


def _connect(uri, count, barrier, results):
    barrier.wait()
    for _ in range(count):
        begin = time.perf_counter()
        conn = libvirt.open(uri)
        results.put(time.perf_counter() - begin)
        conn.close()


def connects(uri, clients, each):
    """Seconds of each connection that so many clients make at once, each several in a row."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(int(clients) + 1), context.Queue()
    workers = [
        context.Process(target=_connect, args=(uri, int(each), barrier, results), daemon=True)
        for _ in range(int(clients))
    ]
    for worker in workers:
        worker.start()
    barrier.wait(120)
    begin = time.perf_counter()
    times = [results.get(timeout=120) for _ in range(int(clients) * int(each))]
    return {"times": times, "all": time.perf_counter() - begin}


if __name__ == "__main__":
    print(json.dumps({"many": many, "events": events, "connects": connects}[sys.argv[1]](*sys.argv[2:])))
