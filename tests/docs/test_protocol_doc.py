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
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

DAEMON_UID, CLIENT_UID = 64911, 64912
CODES = {  # int f(void) { return 42; }
    "x86_64": bytes.fromhex("b82a000000c3"),
    "aarch64": bytes.fromhex("40058052c0035fd6"),
}
SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
UNKNOWN_OPERATION, UNKNOWN_FIELD, INVALID, MISALIGNED, NO_SPAN = 4, 5, 7, 8, 9
OUT_OF_RANGE, SEALED, MISMATCH, TOO_LARGE = 10, 11, 12, 13
PROTOCOL = 2

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
        reply, fds = self.receive(2)
        assert field(reply, 1) == identity and 2 not in reply, reply
        welcome = part(reply, 3)
        assert len(fds) == (2 if field(welcome, 4) == 2 else 1)
        prot_read_exec, map_shared = 1 | 4, 1
        self.base = libc.mmap(None, field(welcome, 5), prot_read_exec, map_shared, fds[0], 0)
        assert self.base != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
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
    immediate = {"x86_64": (1, 1, 42, 43), "aarch64": (0, 4, 0x52800540, 0x52800560)}
    at, width, old, new = immediate[platform.machine()]
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
    with open(f"{folder}/jitbrokerd.conf", "w", encoding="ascii"):
        pass  # all defaults
    daemon = subprocess.Popen(
        [path, f"--socket={folder}/socket", f"--config={folder}/jitbrokerd.conf"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: become(DAEMON_UID),
    )
    line = daemon.stderr.readline().decode()
    if "descriptors for" in line:  # a low limit here: it is of no importance for one client
        line = daemon.stderr.readline().decode()
    assert " serves " in line, line
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
