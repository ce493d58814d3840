#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A client written from docs/protocol.md alone: no protobuf library, none of our code.

It runs against the real daemon ($JITBROKER_DAEMON), sends and gets the very bytes of
the document's worked example, and runs the code that the daemon wrote. As root,
daemon and client are two other users. Argument: the path of protocol.md.
"""
import array
import contextlib
import ctypes
import mmap
import os
import platform
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

DAEMON_UID, CLIENT_UID = 64911, 64912
CODES = {  # int f(void) { return 42; }
    "x86_64": bytes.fromhex("b82a000000c3"),
    "aarch64": bytes.fromhex("40058052c0035fd6"),
}
# Where the 42 is in it: at, width, expected, and desired for 43.
IMMEDIATE = {"x86_64": (1, 1, 42, 43), "aarch64": (0, 4, 0x52800540, 0x52800560)}
SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
UNKNOWN_OPERATION, UNKNOWN_FIELD, INVALID, MISALIGNED, NO_SPAN = 4, 5, 7, 8, 9
OUT_OF_RANGE, SEALED, MISMATCH, TOO_LARGE = 10, 11, 12, 13
MALFORMED, PROTOCOL = 1, 2
ALLOC, RELEASE, SHRINK, QUERY, WRITE, PATCH, SEAL, RESET, STATISTICS, LEASE, CARVE, RETURN = range(12)
THROUGH, DIRECT = 1, 2
RING, EXECUTORS = 4, 8  # features
REFUSED, QUOTA_SESSIONS = 6, 17

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]

# ---- protobuf ---------------------------------------------------------------------------


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def encode(message):
    """A message is a dict from field number to int, bytes or dict, or a list of them."""
    out = b""
    for number, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(number << 3) + varint(value)
            else:
                part = encode(value) if isinstance(value, dict) else value
                out += varint(number << 3 | 2) + varint(len(part)) + part
    return out


def decode(data):
    """A dict from field number to the list of its values; messages inside stay bytes."""
    message, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            at, byte = at + 1, data[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key, value = number(), number()
        assert key & 7 in (0, 2), "only varints and byte strings"
        if key & 7 == 2:
            at += value
            value = data[at - value : at]
        message.setdefault(key >> 3, []).append(value)
    return message


def field(message, number, default=0):
    return message.get(number, [default])[-1]


def part(message, number):
    return decode(field(message, number, b""))


# ---- the protocol -----------------------------------------------------------------------


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.last_id = 0

    def send(self, fields):
        self.last_id += 1
        self.sent = encode({1: self.last_id, **fields})
        self.socket.send(self.sent)
        return self.last_id

    def receive(self, fds_max=0):
        room = socket.CMSG_SPACE(4 * fds_max) if fds_max else 0
        self.got, control, flags, _ = self.socket.recvmsg(131072, room, socket.MSG_CMSG_CLOEXEC)
        assert flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) == 0
        fds = array.array("i")
        for _, _, data in control:
            fds.frombytes(data)
        return decode(self.got), fds

    def hello(self, fields):
        identity = self.send({2: fields})
        reply, fds = self.receive(4)
        assert field(reply, 1) == identity and 2 not in reply, reply
        welcome = part(reply, 3)
        has_ring = field(welcome, 2) & RING != 0
        assert has_ring == (field(welcome, 15) != 0)
        assert len(fds) == (2 if field(welcome, 4) == DIRECT else 1) + (2 if has_ring else 0)
        prot_read_exec, map_shared = 1 | 4, 1
        self.base = libc.mmap(None, field(welcome, 5), prot_read_exec, map_shared, fds[0], 0)
        assert self.base != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
        if has_ring:
            bell = fds.pop()
            self.ring = Ring(fds.pop(), bell, field(welcome, 15), self.socket)
        for fd in fds:
            os.close(fd)
        return welcome

    def request(self, *operations):
        """The results, each a tuple: code of its error or 0, and the result itself."""
        identity = self.send({3: list(operations)})
        return self.results(identity)

    def results(self, identity):
        reply, _ = self.receive()
        assert field(reply, 1) == identity, reply
        if 2 in reply:
            return field(part(reply, 2), 1)
        results = [decode(result) for result in reply.get(4, [])]
        return [(field(part(result, 1), 1), result) for result in results]

    def one(self, operation):
        ((code, result),) = self.request(operation)
        return code, result

    def goodbye(self):
        """The code of the daemon's last record; a reset may be reported before it."""
        for _ in range(64):
            try:
                reply, _ = self.receive()
            except ConnectionResetError:
                continue
            if not self.got:
                return None
            if field(reply, 1) == 0:
                return field(part(reply, 2), 1)


def fence():
    """A full one. Python has none of its own; MEMBARRIER_CMD_GLOBAL makes one everywhere."""
    assert libc.syscall(SYS_MEMBARRIER[platform.machine()], 1, 0, 0) == 0, "no membarrier here"


class Ring:
    """The data plane. Its words are ctypes numbers, which are loaded and stored as a whole."""

    ENTRIES, STAGING_BYTES, ENDED = 512, 262144, 2**64 - 1
    ENTRIES_AT, RESULTS_AT, STAGING_AT, BYTES = 4096, 20480, 151552, 413696

    def __init__(self, fd, bell, size, sock):
        assert size == self.BYTES == self.STAGING_AT + self.STAGING_BYTES
        self.memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.memory.madvise(mmap.MADV_DONTFORK)
        os.close(fd)
        self.bell, self.socket = bell, sock
        self.tail, self.head, self.refused = (self.word(ctypes.c_uint64, at) for at in (0, 128, 136))
        self.asleep, self.waiting = (self.word(ctypes.c_uint32, at) for at in (256, 384))
        self.number = 0  # of the next entry
        self.staged = 0

    def word(self, kind, at):
        return kind.from_buffer(self.memory, at)

    def stage(self, data):
        at = self.staged % self.STAGING_BYTES
        if at + len(data) > self.STAGING_BYTES:
            self.staged, at = self.staged + self.STAGING_BYTES - at, 0
        self.memory[self.STAGING_AT + at : self.STAGING_AT + at + len(data)] = data
        self.staged += len(data)
        return self.staged - len(data)

    def put(self, operation, span=0, number=0, data=b"", width=0, flags=0, at=None):
        """One entry, not published yet; its number. `at` is where the data is said to be staged."""
        assert self.number - self.head.value < self.ENTRIES
        if at is None:
            at = self.stage(data) if data else 0
        size = len(data) if operation == WRITE else 0
        entry = struct.pack("=BBHIQQQ", operation, width, flags, size, span, number, at)
        where = self.ENTRIES_AT + self.number % self.ENTRIES * 32
        self.memory[where : where + 32] = entry
        self.number += 1
        return self.number - 1

    def publish(self):
        """Whether the daemon was asleep, and had to be rung for."""
        fence()
        self.tail.value = self.number
        fence()
        if self.asleep.value == 0:
            return False
        self.asleep.value = 0
        os.write(self.bell, struct.pack("=Q", 1))
        return True

    def wait(self, number):
        """By looking. False: the session has ended."""
        deadline = time.monotonic() + 10
        while self.head.value <= number:
            assert time.monotonic() < deadline, "the ring stands still"
            time.sleep(0)
        fence()
        return self.head.value != self.ENDED

    def sleep(self, seen, timeout=10):
        """Until head is no longer `seen`. What FUTEX_WAIT says."""
        self.waiting.value |= 1  # nobody else waits, and the daemon makes only odd ones even
        word = self.waiting.value
        fence()
        if self.head.value != seen:
            return None
        address = ctypes.addressof(self.waiting)
        limit = (ctypes.c_long * 2)(timeout, 0)
        futex_wait = 0
        return libc.syscall(
            SYS_FUTEX[platform.machine()],
            ctypes.c_void_p(address),
            futex_wait,
            ctypes.c_uint32(word),
            limit,
            None,
            0,
        )

    def answer(self, number):
        """Code, span or None, found, field, text and usage of an entry that is done."""
        at = self.RESULTS_AT + number % self.ENTRIES * 256
        slot = bytes(self.memory[at : at + 256])
        answers, status, flags, offset, size, found, name = struct.unpack_from("=QIIQQQ16s", slot)
        if answers != number + 1:
            return None
        text, usage = slot[56:], struct.unpack_from("=10Q", slot, 56)
        name, text = (part.split(b"\0")[0].decode() for part in (name, text))
        return {
            "status": status,
            "span": (offset, size, flags),
            "found": found,
            "field": name if status else "",
            "text": text if status else "",
            "usage": usage,
        }

    def one(self, *what, **more):
        number = self.put(*what, **more)
        self.publish()
        assert self.wait(number)
        return self.answer(number)


def span_of(answer):
    code, result = answer
    assert code == 0, result
    span = part(result, 2)
    return field(span, 1), field(span, 2), field(span, 3)


# ---- the document -----------------------------------------------------------------------


def examples(document):
    """The bytes of each hex block of the worked example, by the name in bold before it."""
    with open(document, encoding="utf-8") as file:
        text = file.read().split("## A worked example", 1)[1]
    blocks = re.findall(r"^\*\*(.+?)\*\*.*?^```hex\n(.*?)^```", text, re.S | re.M)
    comment = re.compile("#.*")
    return {name: bytes.fromhex(comment.sub("", block)) for name, block in blocks}


def check_example(path, example, code):
    def same(what, data):
        assert data == example[what], f"{what} is: {data.hex(' ')}"

    def comparable(record):
        # The pattern is the processor's, "sealed" depends on the users, the version grows.
        welcome = part(decode(record), 3)
        return {number: value for number, value in welcome.items() if number not in (7, 8, 14)}

    client = Client(path)
    client.hello({1: 1, 2: 1, 4: 1})
    same("Hello", client.sent)
    assert comparable(client.got) == comparable(example["Welcome"]), client.got.hex(" ")
    span_of(client.one({1: {1: 6}}))
    same("Alloc", client.sent)
    same("Alloc's reply", client.got)
    assert client.one({5: {1: 64, 3: code}})[0] == 0
    if platform.machine() == "x86_64":
        same("Write", client.sent)
    same("Write's reply", client.got)
    assert call(client, 64) == 42
    return client


# ---- what else it says ------------------------------------------------------------------


def call(client, offset):
    return ctypes.CFUNCTYPE(ctypes.c_int)(client.base + offset)()


def check_operations(client, code):
    # Several operations in one request, of which one fails; the others are done.
    answers = client.request({1: {1: 1000}}, {2: {1: 1 << 20}}, {1: {1: 4096}})
    (offset, size, flags), (second, _, _) = span_of(answers[0]), span_of(answers[2])
    assert size == 1024 and flags == 1 and answers[1][0] == NO_SPAN
    assert ctypes.string_at(client.base + offset, size) == trap(size)

    # Write ends exactly at the end of the span.
    assert client.one({5: {1: offset, 2: size - len(code), 3: code}})[0] == 0
    assert client.one({5: {1: offset, 2: size - len(code) + 1, 3: code}})[0] == OUT_OF_RANGE
    assert client.one({5: {1: offset, 3: bytes(65537)}})[0] == TOO_LARGE
    assert call(client, offset + size - len(code)) == 42

    # Patch the constant that the code returns, in x86 its first byte.
    at, width, old, new = IMMEDIATE[platform.machine()]
    assert client.one({5: {1: second, 3: code}})[0] == 0
    assert libc.syscall(SYS_MEMBARRIER[platform.machine()], 64, 0, 0) == 0, "no SYNC_CORE here"
    assert client.one({6: {1: second, 2: at, 3: width, 4: old, 5: new}}) == (0, {3: [old]})
    code_found = client.one({6: {1: second, 2: at, 3: width, 4: old, 5: new}})
    assert code_found[0] == MISMATCH and field(code_found[1], 3) == new
    assert client.one({6: {1: second, 2: 1, 3: 2}})[0] == MISALIGNED
    assert client.one({6: {1: second, 3: 3}})[0] == INVALID
    assert libc.syscall(SYS_MEMBARRIER[platform.machine()], 32, 0, 0) == 0
    assert call(client, second) == 43

    # Query finds the span around a byte; shrink rounds up; a sealed span stays as it is.
    assert span_of(client.one({4: {1: offset + 999}})) == (offset, size, 0)
    assert span_of(client.one({3: {1: offset, 2: 65}})) == (offset, 128, 0)
    assert client.one({4: {1: offset + 128}})[0] == NO_SPAN
    assert client.one({3: {1: offset, 2: 129}})[0] == INVALID
    assert span_of(client.one({7: {1: second}})) == (second, 4096, 2)
    assert client.one({5: {1: second, 3: code}})[0] == SEALED
    assert client.one({3: {1: second, 2: 64}})[0] == SEALED

    # What is released is trap fill, and is released once.
    assert client.one({2: {1: offset}}) == (0, {})
    assert client.one({2: {1: offset}})[0] == NO_SPAN
    assert ctypes.string_at(client.base + offset, 128) == trap(128)

    # Statistics, then a reset: one span of the worked example and one of 4096 bytes.
    usage = part(client.one({9: {}})[1], 4)
    assert [field(usage, number) for number in (1, 2, 3, 4, 6)] == [1, 2, 4160, 65536, 65536]
    assert [field(usage, number) for number in (8, 9, 10)] == [0, 60288, 2]
    assert client.one({8: {1: 2}})[0] == INVALID
    assert client.one({8: {}}) == (0, {})
    usage = part(client.one({9: {}})[1], 4)
    assert [field(usage, number) for number in (1, 2, 3)] == [0, 0, 0]


def trap(size):
    pattern = {"x86_64": 0xCCCCCCCC, "aarch64": 0xD4200000}[platform.machine()]
    return pattern.to_bytes(4, "little") * (size // 4)


def check_what_is_unknown(client):
    assert client.one({15: {1: 1}})[0] == UNKNOWN_OPERATION
    assert client.one({})[0] == INVALID
    assert client.one({1: {1: 64, 15: 1}})[0] == UNKNOWN_FIELD
    client.send({15: 1})
    assert client.results(client.last_id) == UNKNOWN_FIELD
    assert client.request(*[{9: {}}] * 257) == INVALID
    assert len(client.request(*[{9: {}}] * 256)) == 256
    assert client.request() == []


def check_pipelining(client):
    identities = [client.send({3: [{1: {1: 64}}]}) for _ in range(16)]
    spans = {span_of(client.results(identity)[0]) for identity in identities}
    assert len(spans) == 16


def statistics(client):
    usage = part(client.one({9: {}})[1], 4)
    return tuple(field(usage, number) for number in range(1, 11))


def refusal(answer):
    """Of the socket's, what the ring says of one too."""
    code, result = answer
    error = part(result, 1)
    return code, field(error, 3, b"").decode(), field(error, 2, b"").decode()


def ring_refusal(answer):
    return answer["status"], answer["field"], answer["text"]


def check_leases(client, code):
    """By the socket."""
    granularity, block = 64, 65536
    assert client.one({10: {}})[0] == INVALID
    assert client.one({10: {1: block - granularity + 1}})[0] == TOO_LARGE
    run, size, flags = span_of(client.one({10: {1: block - granularity}}))
    assert (run % block, size, flags) == (granularity, block - granularity, 1)
    usage = statistics(client)
    assert (usage[0], usage[1], usage[7]) == (0, 0, size)

    # The daemon's own go elsewhere; ours where we say, up to the block's end.
    elsewhere, _, _ = span_of(client.one({1: {1: 1}}))
    assert elsewhere // block != run // block
    assert client.one({11: {1: run, 2: 65}}) == (0, {})
    assert client.one({11: {1: run + 128, 2: 64}}) == (0, {})
    assert client.one({11: {1: run + 192, 2: size - 192}}) == (0, {})
    assert span_of(client.one({4: {1: run + 127}})) == (run, 128, 0)
    usage = statistics(client)
    assert (usage[0], usage[1], usage[7]) == (2, 4, 0)
    assert client.one({5: {1: run + 128, 3: code}})[0] == 0
    assert call(client, run + 128) == 42

    # What is not leased, not free, not one block.
    assert client.one({11: {1: run, 2: 64}})[0] == NO_SPAN
    assert client.one({11: {1: run - granularity, 2: 64}})[0] == NO_SPAN
    assert client.one({11: {1: elsewhere + 64, 2: 64}})[0] == NO_SPAN
    assert client.one({11: {1: run + 1, 2: 64}})[0] == NO_SPAN
    assert client.one({11: {1: run}})[0] == INVALID
    assert client.one({11: {1: run, 2: size + 1}})[0] == INVALID

    # What was released is the lease's again; spans outlive a lease.
    assert client.one({2: {1: run, 2: 1}})[0] == INVALID
    assert client.one({3: {1: run, 2: 64, 3: 1}})[0] == INVALID
    assert client.one({2: {1: run}}) == (0, {})
    assert client.one({11: {1: run, 2: 64}}) == (0, {})
    assert client.one({12: {1: 1}})[0] == NO_SPAN
    assert client.one({12: {1: run - granularity}}) == (0, {})
    assert client.one({12: {1: run - granularity}})[0] == NO_SPAN
    assert client.one({11: {1: run + 64, 2: 64}})[0] == NO_SPAN
    assert call(client, run + 128) == 42

    # A reset ends leases.
    span_of(client.one({10: {1: 64}}))
    assert client.one({8: {}}) == (0, {})
    usage = statistics(client)
    assert usage[:3] == (0, 0, 0) and usage[7:] == (0, usage[3] - 64, 0)


def check_ring(path, code):
    client = Client(path)
    welcome = client.hello({1: 1, 2: 1, 3: RING, 4: THROUGH})
    assert field(welcome, 2) == RING
    ring = client.ring
    assert (ring.tail.value, ring.head.value, ring.refused.value) == (0, 0, 0) and ring.asleep.value != 0

    # A lease; then a carve and a write of it that nobody waits for, one after the other.
    lease = ring.put(LEASE, number=4096)
    assert ring.publish(), "at first the daemon sleeps"
    assert ring.wait(lease)
    run, size, flags = ring.answer(lease)["span"]
    assert (run, size, flags) == (64, 65536 - 64, 1)
    carve = ring.put(CARVE, span=run, number=100)
    write = ring.put(WRITE, span=run, number=64, data=code)
    ring.publish()
    assert ring.wait(write)
    assert ring.answer(carve) is None and ring.answer(write) is None and ring.refused.value == 0
    assert call(client, run + 64) == 42
    assert span_of(client.one({4: {1: run}})) == (run, 128, 0)

    # Patch what it returns, twice: the second time it is no longer there.
    at, width, old, new = IMMEDIATE[platform.machine()]
    change = {"span": run, "number": 64 + at, "width": width, "data": struct.pack("=QQ", old, new)}
    assert libc.syscall(SYS_MEMBARRIER[platform.machine()], 64, 0, 0) == 0, "no SYNC_CORE here"
    answer = ring.one(PATCH, **change)
    assert (answer["status"], answer["found"]) == (0, old)
    answer = ring.one(PATCH, **change)
    assert (answer["status"], answer["found"], answer["field"]) == (MISMATCH, new, "expected")
    assert ring.refused.value == 1
    assert libc.syscall(SYS_MEMBARRIER[platform.machine()], 32, 0, 0) == 0
    assert call(client, run + 64) == 43

    # Refusals are those of the socket, word for word.
    refused = [
        ({"operation": WRITE, "span": run, "number": 127, "data": code}, {5: {1: run, 2: 127, 3: code}}),
        ({"operation": WRITE, "span": run, "data": bytes(65537)}, {5: {1: run, 3: bytes(65537)}}),
        ({"operation": ALLOC}, {1: {}}),
        ({"operation": RELEASE, "span": run, "flags": 1}, {2: {1: run, 2: 1}}),
        ({"operation": RELEASE, "span": run + 64}, {2: {1: run + 64}}),
        ({"operation": SHRINK, "span": run, "number": 129}, {3: {1: run, 2: 129}}),
        ({"operation": QUERY, "span": 1 << 30}, {4: {1: 1 << 30}}),
        ({"operation": RESET, "number": 2}, {8: {1: 2}}),
        ({"operation": LEASE, "number": 65473}, {10: {1: 65473}}),
        ({"operation": CARVE, "span": run, "number": 64}, {11: {1: run, 2: 64}}),
        ({"operation": RETURN, "span": 65536}, {12: {1: 65536}}),
    ]
    for entry, operation in refused:
        by_ring, by_socket = ring_refusal(ring.one(**entry)), refusal(client.one(operation))
        assert by_ring == by_socket and by_ring[0] != 0 and by_ring[2] != "", (by_ring, by_socket)
    assert ring.refused.value == 1 + len(refused)

    # What has something to say says it; statistics are the same from both sides.
    second = ring.one(ALLOC, number=199990)["span"]
    assert second[1:] == (200000, 1)
    assert ring.one(SHRINK, span=second[0], number=65)["span"] == (second[0], 128, 0)
    assert ring.one(QUERY, span=second[0] + 127)["span"] == (second[0], 128, 0)
    assert ring.one(SEAL, span=second[0])["span"] == (second[0], 128, 2)
    assert ring_refusal(ring.one(WRITE, span=second[0], data=code))[:2] == (SEALED, "span")
    assert ring.one(STATISTICS)["usage"] == statistics(client)

    # Around the ring and its staging more than once, a full ring at a time.
    for turn in range(3):
        for byte in range(ring.ENTRIES):
            last = ring.put(WRITE, span=run, number=byte % 128, data=bytes([turn * 16 + byte % 128]))
        ring.publish()
        assert ring.wait(last) and ring.head.value == ring.number
    for turn in range(12):
        last = ring.put(WRITE, span=run, number=0, data=bytes([turn]) * 60000)
        ring.publish()
        assert ring.wait(last)
        assert ring.answer(last)["status"] == OUT_OF_RANGE
    assert ctypes.string_at(client.base + run, 128) == bytes(32 + byte for byte in range(128))

    # After a pause the daemon sleeps, and has to be rung for. Who sleeps is woken.
    time.sleep(0.2)
    release = ring.put(RELEASE, span=run)
    later = threading.Timer(0.2, ring.publish)
    later.start()
    assert ring.sleep(release) == 0 and ring.waiting.value % 2 == 0
    later.join()
    assert ring.wait(release) and ring.answer(release) is None
    assert ctypes.string_at(client.base + run, 128) == trap(128)
    assert ring.one(RESET) is None
    usage = ring.one(STATISTICS)["usage"]
    assert usage == statistics(client) and usage[:3] == (0, 0, 0)


def check_nonsense(path):
    """It ends the session, and the socket says why."""

    def ended(nonsense):
        client = Client(path)
        client.hello({1: 1, 2: 1, 3: RING, 4: THROUGH})
        ring = client.ring
        first = ring.one(ALLOC, number=1)
        assert first["status"] == 0
        nonsense(ring)
        ring.publish()
        assert not ring.wait(1)
        assert select.select([client.socket], [], [], 10)[0] and client.goodbye() == MALFORMED

    def tail(number):
        def change(ring):
            ring.number = number

        return change

    ended(tail(0))
    ended(tail(1 + 513))
    ended(lambda ring: ring.put(12))
    ended(lambda ring: ring.put(RELEASE, span=64, flags=2))
    ended(lambda ring: ring.put(WRITE, span=64, data=bytes(2), at=262143))
    ended(lambda ring: ring.put(PATCH, span=64, width=1, at=262144 - 15))


def check_without_ring(path):
    client = Client(path)
    welcome = client.hello({1: 1, 2: 1, 4: THROUGH})
    assert field(welcome, 2) == 0 and field(welcome, 15) == 0


def open_executor(owner):
    """A client by whose socket the owner's session is an executor's."""
    identity = owner.send({4: {}})
    reply, fds = owner.receive(1)
    assert reply == {1: [identity]} and len(fds) == 1, reply
    client = Client.__new__(Client)
    client.socket = socket.socket(fileno=fds[0])
    client.socket.settimeout(10)
    client.last_id = 0
    return client


def check_executors(path, code):
    owner = Client(path)
    welcome = owner.hello({1: 1, 2: 1, 3: EXECUTORS, 4: THROUGH, 5: 1 << 20, 6: 128})
    assert field(welcome, 2) == EXECUTORS and field(welcome, 16) == 0
    executor = open_executor(owner)
    granted = executor.hello({1: 1, 2: 1, 3: 15})
    assert field(granted, 16) == 1 and field(granted, 2) == 0 and field(granted, 4) == THROUGH
    assert [field(granted, n) for n in (3, 5, 6, 7, 9)] == [field(welcome, n) for n in (3, 5, 6, 7, 9)]

    # What is written later is there, at the same offset, and where it was it asks.
    offset, size, _ = span_of(owner.one({1: {1: len(code)}}))
    assert owner.one({5: {1: offset, 3: code}})[0] == 0
    assert executor.base != owner.base and call(executor, offset) == 42
    assert span_of(executor.one({4: {1: offset + 1}})) == (offset, size, 0)
    assert statistics(executor) == statistics(owner)

    # All else is its owner's.
    for operation in [{1: {1: 1}}, {2: {1: offset}}, {5: {1: offset, 3: code}}, {8: {}}, {10: {1: 1}}]:
        assert executor.one(operation)[0] == REFUSED
    executor.send({4: {}})
    assert executor.results(executor.last_id) == REFUSED
    assert executor.one({15: {}})[0] == UNKNOWN_OPERATION
    executor.send({2: {1: 1, 2: 1}})
    assert executor.results(executor.last_id) == PROTOCOL

    # It stands alone, and waits for what came before.
    owner.send({4: {}, 3: [{9: {}}]})
    assert owner.results(owner.last_id) == INVALID
    owner.send({4: {15: 1}})
    assert owner.results(owner.last_id) == UNKNOWN_FIELD

    # 8 of them, and its Hello says nothing of the arena.
    others = [open_executor(owner) for _ in range(7)]
    owner.send({4: {}})
    assert owner.results(owner.last_id) == QUOTA_SESSIONS
    for client, wish in zip(others, ({4: THROUGH}, {5: 65536}, {6: 64}, {7: 0xCCCCCCCC})):
        client.send({2: {1: 1, 2: 1, **wish}})
        reply, _ = client.receive(1)
        assert field(part(reply, 2), 1) == INVALID and client.goodbye() is None
    others[4].send({3: [{9: {}}]})
    assert others[4].goodbye() == PROTOCOL

    # The owner goes; the code runs on, and an end that nobody used is as good as before.
    owner.socket.close()
    assert call(executor, offset) == 42
    others[5].hello({1: 1, 2: 1})
    assert call(others[5], offset) == 42
    assert span_of(others[5].one({4: {1: offset}})) == (offset, size, 0)


def check_ends(path, example):
    client = Client(path)
    client.socket.send(example["Hello"])
    client.receive(2)
    # The record that ends it, and if the daemon is slow one that it won't read: a reset, then goodbye.
    client.socket.send(encode({3: [{9: {}}]}))
    with contextlib.suppress(BrokenPipeError):
        client.socket.send(encode({1: 7, 3: [{9: {}}]}))
    assert client.goodbye() == PROTOCOL
    refused = Client(path)
    refused.send({2: {1: 1, 2: 1, 6: 32}})
    reply, _ = refused.receive(2)
    assert field(reply, 1) == 1 and field(part(reply, 2), 1) == INVALID
    assert refused.goodbye() is None


def check_all(path, document):
    code = CODES[platform.machine()]
    example = examples(document)
    client = check_example(path, example, code)
    check_operations(client, code)
    check_what_is_unknown(client)
    check_pipelining(client)
    check_without_ring(path)
    client = Client(path)
    client.hello({1: 1, 2: 1, 4: THROUGH})
    check_leases(client, code)
    check_ring(path, code)
    check_nonsense(path)
    check_executors(path, code)
    check_ends(path, example)


# ---- two processes ----------------------------------------------------------------------


def become(uid):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def start_daemon(folder):
    """A copy, since another user may not get at the one that was built."""
    path = shutil.copy(os.environ["JITBROKER_DAEMON"], folder)
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        os.chown(folder, DAEMON_UID, DAEMON_UID)
    with open(f"{folder}/jitbrokerd.conf", "w", encoding="ascii") as config:
        config.write("[class default]\n")  # everyone, with all defaults
    daemon = subprocess.Popen(
        [path, f"--socket={folder}/socket", f"--config={folder}/jitbrokerd.conf"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: become(DAEMON_UID),
    )
    line = daemon.stderr.readline().decode()
    if "fewer descriptors" in line:  # a low limit here: it is of no importance for one client
        line = daemon.stderr.readline().decode()
    assert "started: " in line, line
    return daemon


def run_client(function, *arguments):
    """In a child, as another user. Its exit status: 0 if nothing was raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            become(CLIENT_UID)
            function(*arguments)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    if platform.machine() not in CODES:
        print(f"skipped: no machine code for {platform.machine()}")
        return 77
    with tempfile.TemporaryDirectory(prefix="jitbroker-test-") as folder:
        daemon = start_daemon(folder)
        try:
            status = run_client(check_all, f"{folder}/socket", os.path.abspath(sys.argv[1]))
        finally:
            daemon.send_signal(signal.SIGTERM)
            log = daemon.stderr.read().decode()
        if daemon.wait() != 0 or status != 0:
            print(f"client: {status}, daemon: {daemon.returncode}, its log:\n{log}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
