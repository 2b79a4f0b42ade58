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


def _read(uri, question, stop, pipe):
    ask = getattr(libvirt.open(uri).lookupByName(GUEST), question)
    count, begin = 0, time.monotonic()
    while not stop.is_set():
        for _ in range(10):
            ask()
        count += 10
    pipe.send(count / (time.monotonic() - begin))


def _with_subscribers(uri, subscribers, pairs, pause, question=None):
    """When each change was asked for, when each subscriber heard, the seconds it took, and the questions per second."""
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
    enough, (told, teller) = context.Event(), context.Pipe(False)
    other = context.Process(target=_read, args=(uri, question, enough, teller)) if question else None
    if other is not None:
        other.start()
    begin = time.monotonic()
    changer.start()
    calls = reader.recv()
    seconds = time.monotonic() - begin
    changer.join()
    rate = 0.0
    if other is not None:
        enough.set()
        rate = told.recv()
        other.join()
    time.sleep(2)
    stop.set()
    heard = [times for _ in listeners for times in results.get(timeout=60)]
    for listener in listeners:
        listener.join(10)
    return calls, heard, seconds, rate


def events(uri, subscribers):
    """Seconds from each change to the last of so many subscribers; losses; and the calls per second meanwhile.

    `changes` are those of the client whose changes are told; `reads` and `infos` are another client's, while the first
    makes changes as fast as it can: what a read model can answer, and what only the driver knows.
    """
    calls, heard, _, _ = _with_subscribers(uri, int(subscribers), 40, 0.02)
    whole = [times for times in heard if len(times) == len(calls)]
    last = [max(times[place] for times in whole) - begin for place, begin in enumerate(calls)] if whole else []
    found = {"last": last, "lost": sum(len(calls) - len(times) for times in heard)}
    for name, question in (("changes", None), ("reads", "state"), ("infos", "info")):
        burst, told, seconds, rate = _with_subscribers(uri, int(subscribers), 150, 0, question)
        found[name] = rate if question else len(burst) / seconds
        found["lost"] += sum(len(burst) - len(times) for times in told)
    return found


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
