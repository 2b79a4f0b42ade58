"""Run by the system's own Python: libvirt's streams, in each way that its binding has. `streams.py URI FOLDER`.

The folder holds `full` and `sparse`; what is downloaded again is put beside them. Prints what happened, as JSON.
"""

import json
import os
import sys
from pathlib import Path

import libvirt

libvirt.registerErrorHandler(lambda context, error: None, None)
libvirt.virEventRegisterDefaultImpl()


def read(stream, size, file):
    return file.read(size)


def write(stream, data, file):
    return file.write(data)


def next_part(stream, fd):
    """Whether data or a hole is next, and how much of it."""
    here = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        data = os.lseek(fd, here, os.SEEK_DATA)
    except OSError:  # no more data: a hole to the end
        end = os.lseek(fd, 0, os.SEEK_END)
        os.lseek(fd, here, os.SEEK_SET)
        return [False, end - here]
    if data > here:
        os.lseek(fd, here, os.SEEK_SET)
        return [False, data - here]
    hole = os.lseek(fd, here, os.SEEK_HOLE)
    os.lseek(fd, here, os.SEEK_SET)
    return [True, hole - here]


def plainly(conn, vol, folder):
    stream = conn.newStream(0)
    with (folder / "full").open("rb") as file:
        vol.upload(stream, 0, 0, 0)
        stream.sendAll(read, file)
    stream.finish()
    stream = conn.newStream(0)
    with (folder / "full.back").open("wb") as file:
        vol.download(stream, 0, 0, 0)
        stream.recvAll(write, file)
    stream.finish()


def sparsely(conn, vol, folder):
    stream = conn.newStream(0)
    fd = os.open(folder / "sparse", os.O_RDONLY)
    vol.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    stream.sparseSendAll(
        lambda stream, size, fd: os.read(fd, size),
        next_part,
        lambda stream, length, fd: os.lseek(fd, length, os.SEEK_CUR),
        fd,
    )
    stream.finish()
    os.close(fd)
    stream = conn.newStream(0)
    fd = os.open(folder / "sparse.back", os.O_WRONLY | os.O_CREAT)
    vol.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
    holes = []

    def skip(stream, length, fd):
        holes.append(length)
        os.ftruncate(fd, os.lseek(fd, length, os.SEEK_CUR))

    stream.sparseRecvAll(lambda stream, data, fd: os.write(fd, data), skip, fd)
    stream.finish()
    os.close(fd)
    return holes


class Upload:
    """Sends whenever the stream takes something."""

    def __init__(self, conn, vol, data):
        self.data = memoryview(data)
        self.done = False
        self.stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
        vol.upload(self.stream, 0, 0, 0)
        self.stream.eventAddCallback(libvirt.VIR_STREAM_EVENT_WRITABLE, self.writable, None)

    def writable(self, stream, events, opaque):
        while self.data:
            sent = stream.send(bytes(self.data[:100_000]))
            if sent == -2:
                return
            self.data = self.data[sent:]
        stream.eventRemoveCallback()
        stream.finish()
        self.done = True


class Download:
    """Receives whenever there is something."""

    def __init__(self, conn, vol):
        self.data = b""
        self.done = False
        self.stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
        vol.download(self.stream, 0, 0, 0)
        wanted = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_HANGUP
        self.stream.eventAddCallback(wanted, self.readable, None)

    def readable(self, stream, events, opaque):
        while True:
            data = stream.recv(65536)
            if data == -2:
                return
            if not data:
                break
            self.data += data
        stream.eventRemoveCallback()
        stream.finish()
        self.done = True


def run(what):
    while not what.done:
        libvirt.virEventRunDefaultImpl()


def refused(function, *args):
    try:
        function(*args)
    except libvirt.libvirtError as exc:
        return exc.get_error_message()
    return None


def main(uri, folder):
    folder = Path(folder)
    conn = libvirt.open(uri)
    pool = conn.storagePoolLookupByName("pool")
    vol = pool.storageVolLookupByName("vol")
    found = {}
    plainly(conn, vol, folder)
    found["holes"] = sparsely(conn, vol, folder)

    data = (folder / "full").read_bytes()[::-1]
    run(Upload(conn, vol, data))
    download = Download(conn, vol)
    run(download)
    found["by events"] = download.data == data

    side_by_side = [Download(conn, vol) for _ in range(5)]
    for one in side_by_side:
        run(one)
    found["side by side"] = [one.data == data for one in side_by_side]

    stream = conn.newStream(0)
    vol.upload(stream, 0, 0, 0)
    stream.send(b"x" * 100_000)
    stream.abort()
    found["alive after an abort"] = conn.isAlive()

    broken = pool.storageVolLookupByName("broken")
    stream = conn.newStream(0)
    broken.download(stream, 0, 0, 0)
    with (folder / "broken").open("wb") as file:
        found["a failure in the middle"] = refused(stream.recvAll, write, file)
    stream = conn.newStream(0)
    broken.upload(stream, 0, 0, 0)
    with (folder / "full").open("rb") as file:
        found["a failure of the sink"] = refused(lambda: (stream.sendAll(read, file), stream.finish()))
    found["uri"] = conn.getURI()
    conn.close()
    json.dump(found, sys.stdout)


main(*sys.argv[1:])
