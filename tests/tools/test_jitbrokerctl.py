#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""jitbrokerctl against the real daemon: what each verb prints for people and as JSON, and its exit status.

    test_jitbrokerctl.py JITBROKERCTL HOLDER SOURCE

As root, daemon and client are two other users.
"""
import contextlib
import fcntl
import json
import os
import platform
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import xml.etree.ElementTree

import openmetrics

CTL, HOLDER, SOURCE = sys.argv[1:4]
DAEMON_UID, CLIENT_UID = 64911, 64912
AS_ROOT = os.geteuid() == 0
CODES = {  # int f(void) { return 42; } and how it is written down
    "x86_64": ("b82a000000c3", ["mov eax, 0x2a", "ret"], "b82a000000"),
    "aarch64": ("400580520000a072c0035fd6", ["mov w0, #0x2a"], "40058052"),
}
OPERATIONS = "alloc release shrink query write patch seal reset statistics lease carve return".split()
DONE, FAILED, USAGE, NO_ANSWER = range(4)


def user(uid):
    return {"user": uid, "group": uid, "extra_groups": []} if AS_ROOT else {}


class Daemon:
    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="jitbroker-test-")
        os.chmod(self.folder, 0o755)
        if AS_ROOT:
            os.chown(self.folder, DAEMON_UID, DAEMON_UID)
        self.program = shutil.copy(os.environ["JITBROKER_DAEMON"], self.folder)
        self.holder = shutil.copy(HOLDER, self.folder)
        self.admin, self.socket = f"{self.folder}/admin", f"{self.folder}/socket"
        self.config, self.log = f"{self.folder}/conf", f"{self.folder}/log"
        self.configure("[class default]\n")
        command = [self.program, f"--socket={self.socket}", f"--admin={self.admin}", f"--config={self.config}", *options]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, **user(DAEMON_UID))
        while not os.path.exists(self.admin):
            assert self.process.poll() is None, "the daemon has ended"
            time.sleep(0.001)
        while ctl(self, "status", expect=None).returncode != DONE:
            assert self.process.poll() is None, "the daemon has ended"

    def configure(self, text):
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)

    def stop(self):
        self.process.terminate()
        assert self.process.wait() == 0
        shutil.rmtree(self.folder)


class Holder:
    def __init__(self, daemon, uid=CLIENT_UID):
        environment = {**os.environ, "JITBROKER_SOCKET": daemon.socket}
        self.process = subprocess.Popen(
            [daemon.holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **user(uid)
        )
        told = json.loads(self.process.stdout.readline())
        self.session, self.offsets = told["session"], told["offsets"]

    def write(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def ctl(daemon, *arguments, expect=DONE, text=True, **more):
    command = [CTL, "--admin", daemon.admin, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=text, check=False, stdin=subprocess.DEVNULL, **more)
    assert expect is None or done.returncode == expect, f"{command} ended with {done}"
    assert expect in (None, DONE) or done.stderr, "an error that says nothing"
    return done


def ctl_json(daemon, *arguments):
    return json.loads(ctl(daemon, *arguments, "--json").stdout)


KEYS_SEEN = set()


def keys(value, *names):
    KEYS_SEEN.update(names)
    assert sorted(value) == sorted(names), f"has {sorted(set(value) ^ set(names))} too much or too little"


SESSION_KEYS = (
    "session uid pid unit class mode plane granularity spans spans_max used_bytes leased_bytes reserved_bytes "
    "reserved_peak_bytes arena_bytes blocks free_runs operations refusals findings age_seconds executors sealed "
    "frozen large write_once orphaned"
).split()

# ---- Verbs ------------------------------------------------------------------------------------


def check_status(daemon, holder):
    status = ctl_json(daemon, "status")
    keys(
        status,
        *"version pid uptime_seconds started sessions executors connections connections_max sessions_started".split(),
        *"sessions_adopted store supervisor users spans used_bytes reserved_bytes bytes_max queued_bytes policy_files".split(),
        *"classes policy_mistake log_level events".split(),
    )
    assert status["pid"] == daemon.process.pid and status["sessions"] == 1 and status["users"] == 1
    assert status["spans"] == 3 and status["used_bytes"] == 64 + 1024 + 200000 and status["log_level"] == "info"
    assert status["policy_files"] == [daemon.config] and status["policy_mistake"] == ""
    assert abs(status["started"] - time.time()) < 600
    text = ctl(daemon, "status").stdout
    assert f"process {daemon.process.pid}, for " in text and "sessions:     1, and 0 executors" in text
    assert "196K used by 3 spans" in text and f"1 class, of {daemon.config}" in text, text
    assert holder.session == 1


def check_sessions(daemon, holder):
    (session,) = ctl_json(daemon, "sessions")["sessions"]
    keys(session, *SESSION_KEYS)
    assert session["session"] == holder.session and session["pid"] == holder.process.pid
    assert session["uid"] == (CLIENT_UID if AS_ROOT else os.getuid()) and session["class"] == "default"
    assert session["mode"] == "through" and session["plane"] == "ring" and session["spans"] == 3
    assert session["sealed"] == (not AS_ROOT) and session["executors"] == 0 and not session["orphaned"]
    head, row = ctl(daemon, "sessions").stdout.splitlines()
    assert head.split()[:4] == ["SESSION", "UID", "PID", "MODE"] and len(head.split()) == len(row.split())
    assert row.split()[:5] == [str(holder.session), str(session["uid"]), str(session["pid"]), "through", "ring"]


def check_spans(daemon, holder):
    first, second, _, large = holder.offsets
    listed = ctl_json(daemon, "spans", holder.session)
    keys(listed, "session", "spans")
    keys(listed["spans"][0], "offset", "size", "sealed")
    assert listed["spans"] == sorted(
        [
            {"offset": first, "size": 64, "sealed": False},
            {"offset": second, "size": 1024, "sealed": True},
            {"offset": large, "size": 200000, "sealed": False},
        ],
        key=lambda span: span["offset"],
    )
    lines = ctl(daemon, "spans", holder.session).stdout.splitlines()
    assert lines[0].split() == ["OFFSET", "SIZE", "FLAGS"] and len(lines) == 4
    assert [hex(second), "1024", "sealed"] in [line.split() for line in lines]


def check_map(daemon, holder):
    picture = ctl_json(daemon, "map", holder.session)
    keys(
        picture,
        *"session spans blocks used_bytes leased_bytes reserved_bytes arena_bytes free_bytes free_runs".split(),
        *"largest_free_bytes fragmented_percent cell_bytes cells".split(),
    )
    cells = picture["cells"]
    keys(cells[0], "used_bytes", "sealed_bytes", "leased")
    assert len(cells) * picture["cell_bytes"] >= picture["reserved_bytes"]
    assert sum(cell["used_bytes"] for cell in cells) == picture["used_bytes"] == 64 + 1024 + 200000
    assert sum(cell["sealed_bytes"] for cell in cells) == 1024
    assert cells[0]["leased"] and picture["free_bytes"] + picture["used_bytes"] < picture["reserved_bytes"]
    assert picture["largest_free_bytes"] <= picture["free_bytes"]
    text = ctl(daemon, "map", holder.session).stdout
    text.encode("ascii")  # no terminal: no characters that it may not have, no colours
    rows = [line for line in text.splitlines() if line.startswith("0x")]
    assert sum(len(row.split("  ")[1]) for row in rows) == len(cells) and "\033" not in text
    assert rows[0].split("  ")[1][0] in "-+x#S" and "#" in rows[-1] + rows[1]

    root = xml.etree.ElementTree.fromstring(ctl(daemon, "map", holder.session, "--svg").stdout)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == space + "svg" and int(root.get("width")) > 0 and int(root.get("height")) > 0
    words = " ".join(text.text for text in root.iter(space + "text"))
    for word in ["session 1", "3 spans", "fragmented", "free", "used", "sealed", "leased"]:
        assert word in words, f"no {word} in {words}"
    width = sum(int(part.get("width")) + 1 for part in root.iter(space + "rect") if part.get("x") and part.get("height"))
    assert width >= 12 * len(cells), "cells are missing"


def check_code(daemon, holder):
    code, text, first_bytes = CODES[platform.machine()]
    first, _, released, large = holder.offsets
    listing = ctl_json(daemon, "disasm", holder.session, first)
    keys(listing, "session", "offset", "size", "instructions")
    keys(listing["instructions"][0], "offset", "bytes", "text")
    assert listing["offset"] == first and listing["size"] == 64
    assert [line["text"] for line in listing["instructions"]][: len(text)] == text, listing["instructions"][:3]
    assert listing["instructions"][0]["bytes"] == first_bytes
    assert "".join(line["bytes"] for line in listing["instructions"])[: len(code)] == code
    assert sum(len(line["bytes"]) for line in listing["instructions"]) == 2 * 64
    lines = ctl(daemon, "disasm", holder.session, hex(first + 5)).stdout.splitlines()  # from inside it
    assert lines[0].startswith(f"0x{first:08x}  ") and lines[0].endswith(text[0]) and lines[-1].endswith("traps")

    dumped = ctl(daemon, "dump", holder.session, first, text=False).stdout
    assert len(dumped) == 64 and dumped.hex().startswith(code)
    whole = ctl(daemon, "dump", holder.session, text=False).stdout
    assert len(whole) == large + 200000 and whole[first : first + 64] == dumped and not any(whole[:first])
    path = f"{daemon.folder}/dumped"
    assert ctl(daemon, "dump", holder.session, "--output", path).stdout == ""
    with open(path, "rb") as file:
        assert file.read() == whole
    (span,) = ctl_json(daemon, "dump", holder.session, first)["spans"]
    keys(span, "offset", "size", "bytes")
    assert span == {"offset": first, "size": 64, "bytes": dumped.hex()}
    assert len(ctl_json(daemon, "dump", holder.session)["spans"]) == 3
    assert "no live span" in ctl(daemon, "disasm", holder.session, released, expect=FAILED).stderr
    assert "no live span" in ctl(daemon, "dump", holder.session, released, expect=FAILED).stderr
    ctl(daemon, "dump", holder.session, "--output", daemon.folder, expect=FAILED)
    ctl(daemon, "dump", holder.session, "--output", "/dev/full", expect=FAILED)


def check_doctor(daemon):
    options = ["--socket", daemon.socket]
    found = ctl_json(daemon, "doctor", *options)
    keys(found, "status", "status_text", "detail", "can", "lockdown", "report", "daemon_answers", "daemon_findings")
    assert found["status"] == 0 and found["can"]["run"] is True and found["daemon_answers"] is True
    assert len(found["daemon_findings"]) == 1 and "nobody keeps its sessions" in found["daemon_findings"][0]
    text = ctl(daemon, "doctor", *options).stdout
    assert text.startswith(found["report"]) and f"The daemon at {daemon.admin}:\n" in text
    daemon.configure("[daemon]\nsessions_max=-1\n[class default]\n")
    ctl(daemon, "reload", expect=FAILED)
    mistake, _ = ctl_json(daemon, "doctor", *options)["daemon_findings"]
    assert f"{daemon.config}:2: " in mistake and "jitbrokerctl reload" in mistake, mistake
    check_doctor_near_a_limit(daemon)
    daemon.configure("")
    ctl(daemon, "reload")
    done = ctl(daemon, "doctor", "--json", expect=None)
    assert any("serves nobody" in told or "nobody is served" in told for told in json.loads(done.stdout)["daemon_findings"])
    daemon.configure("[class default]\n")
    ctl(daemon, "reload")
    done = subprocess.run([CTL, "--admin", daemon.admin + "-not", "doctor", *options], capture_output=True, text=True, check=True)
    assert "The daemon is not examined" in done.stdout and done.stderr == ""


def check_doctor_near_a_limit(daemon):
    if not AS_ROOT:
        print("not tried: nearly as many connections as there may be (one user has only a share; needs root)")
        return
    for connections_max, is_near in [(20, True), (21, False)]:
        daemon.configure(f"[daemon]\nsessions_max={connections_max}\n[class default]\n")
        ctl(daemon, "reload")
        with contextlib.ExitStack() as stack:
            for i in range(18 - ctl_json(daemon, "status")["connections"]):
                stack.callback(Holder(daemon, CLIENT_UID + 1 + i).stop)
            sentences = ctl_json(daemon, "doctor", "--socket", daemon.socket + "-not")["daemon_findings"]
        assert any(f"18 connections of {connections_max}" in told for told in sentences) == is_near, sentences


def check_policy(daemon):
    environment = {**os.environ, "JITBROKER_DAEMON": daemon.program}
    path = f"{daemon.folder}/policy"
    with open(path, "w", encoding="utf-8") as file:
        file.write("[class a]\nuid=5\n[class default]\nunit=b.service\nspan_max=7\n")

    def explain(*options, expect=DONE):
        command = [CTL, "policy", "explain", "--config", path, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == expect and done.stderr == "", done
        return done

    told = json.loads(explain("--uid", 5, "--json").stdout)
    keys(told, "peer", "mismatches", "class", "settings", "served", "refused")
    keys(told["settings"][0], "class", "key", "value", "file", "line")
    assert told["served"] is True and told["class"] == "a" and told["mismatches"] == [] and told["peer"] == {"uid": 5}
    assert told["settings"][0] == {"class": "a", "key": "uid", "value": "5", "file": path, "line": 2}
    assert {"class": "a", "key": "gid", "value": "any", "file": "", "line": 0} in told["settings"]
    text = explain("--uid", 5).stdout
    assert all(f"  {one['key']}={one['value']}  " in text for one in told["settings"])
    told = json.loads(explain("--json", "--uid", 33, "--gid", 7, "--unit", "c.service", "--label", "x", expect=FAILED).stdout)
    assert told["served"] is False and told["refused"] == "in no class" and told["class"] == ""
    assert told["peer"] == {"uid": 33, "gid": 7, "unit": "c.service", "label": "x"} and told["settings"] == []
    assert [(one["class"], one["key"], one["line"]) for one in told["mismatches"]] == [("a", "uid", 2), ("default", "unit", 4)]
    with open(path, "a", encoding="utf-8") as file:
        file.write("write=none\n")
    told = json.loads(explain("--uid=33", "--unit=b.service", "--json", expect=FAILED).stdout)
    assert told["refused"] == "write=none" and told["class"] == "default" and told["served"] is False


def check_metrics(daemon, holder):
    openmetrics.self_test()
    before = openmetrics.parse(ctl(daemon, "metrics").stdout)
    assert holder.write() == "ok"
    families = openmetrics.parse(ctl(daemon, "metrics").stdout)

    def value(of, name, suffix="", **labels):
        (found,) = [sample[2] for sample in of[name]["samples"] if sample[0] == suffix and sample[1] == labels]
        return found

    assert value(families, "jitbroker_sessions") == 1 and value(families, "jitbroker_spans") == 3
    assert value(families, "jitbroker_used_bytes") == 64 + 1024 + 200000
    assert value(families, "jitbroker_policy_in_force") == 1
    for outcome, more in [("done", 1), ("refused", 0)]:
        labels = {"suffix": "_total", "operation": "write", "outcome": outcome}
        assert value(families, "jitbroker_operations", **labels) == more + value(before, "jitbroker_operations", **labels)
    histogram = families["jitbroker_operation_duration_seconds"]
    assert {sample[1]["operation"] for sample in histogram["samples"]} == set(OPERATIONS)
    check_metrics_as_json(daemon, families)
    assert families["jitbroker_events"]["type"] == "counter" and all(name.startswith("jitbroker_") for name in families)


def check_metrics_as_json(daemon, families):
    """It has the same families and samples as the text."""
    told = ctl_json(daemon, "metrics")
    keys(told, "metrics")
    keys(told["metrics"][0], "name", "type", "unit", "help", "samples")
    keys(told["metrics"][0]["samples"][0], "name", "labels", "value")
    assert [family["name"] for family in told["metrics"]] == list(families)
    for family in told["metrics"]:
        text = families[family["name"]]
        assert (family["type"], family["unit"], family["help"]) == (text["type"], text.get("unit", ""), text["help"])
        of_text = [(family["name"] + suffix, labels) for suffix, labels, _ in text["samples"]]
        assert [(sample["name"], sample["labels"]) for sample in family["samples"]] == of_text
    (spans,) = [family for family in told["metrics"] if family["name"] == "jitbroker_spans"]
    assert spans["samples"] == [{"name": "jitbroker_spans", "labels": {}, "value": 3}]


def check_top(daemon, holder):
    frame = ctl_json(daemon, "top", "--once", "--interval", "0.05")
    keys(
        frame,
        *"interval_seconds sessions_count spans used_bytes reserved_bytes operations_per_second".split(),
        *"refused_per_second operations sessions".split(),
    )
    assert frame["interval_seconds"] >= 0.05 and [line["operation"] for line in frame["operations"]] == OPERATIONS
    keys(frame["operations"][0], "operation", "done_per_second", "refused_per_second", "p50_ns", "p99_ns")
    keys(frame["sessions"][0], "operations_per_second", "session")
    keys(frame["sessions"][0]["session"], *SESSION_KEYS)
    assert [session["session"]["session"] for session in frame["sessions"]] == [holder.session]
    text = ctl(daemon, "top", "--once", "--interval", "0.05").stdout
    assert "operations: 0/s" in text and f"\n{holder.session} " in text and "\033" not in text
    check_rates(daemon, holder)


def check_rates(daemon, holder):
    """Writes between the two looks are seen, and told as a rate."""
    command = [CTL, "--admin", daemon.admin, "top", "--once", "--json", "--interval", "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        for _ in range(64):  # of as many of a kind one is timed
            assert holder.write() == "ok"
            time.sleep(0.002)
        frame = json.loads(top.stdout.read())
    (write,) = [line for line in frame["operations"] if line["operation"] == "write"]
    assert 0 < write["done_per_second"] <= 64 / frame["interval_seconds"] + 1
    assert frame["sessions"][0]["operations_per_second"] > 0


def read_until(fd, part, tail=b""):
    text = tail
    while part not in text:
        ready, _, _ = select.select([fd], [], [], 60)
        assert ready, f"no {part} in {text}"
        text += os.read(fd, 65536)
    return text


def check_top_at_a_terminal(daemon):
    for key in [b"q", b"\x03"]:
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(CTL, [CTL, "--admin", daemon.admin, "top", "--interval", "0.05"])
        text = read_until(fd, b"SESSION")
        assert b"\033[?1049h" in text and b"jitbrokerd " in text and b"\033[?7l" in text  # long lines are cut
        os.write(fd, key)
        text = read_until(fd, b"\033[?1049l", text)  # the terminal is as it was
        assert b"\033[?7h\033[?25h" in text
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == DONE
        os.close(fd)


def at_a_terminal(columns, environment, *arguments):
    """What is printed on a terminal of so many columns."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execve(CTL, [CTL, *map(str, arguments)], {**os.environ, **environment})
    text = b""
    with contextlib.suppress(OSError):  # the other end is gone
        while part := os.read(fd, 65536):
            text += part
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == DONE
    return text.decode()


def check_terminals(daemon, holder):
    """A terminal gets what it can show."""
    this_map = ["--admin", daemon.admin, "map", holder.session]
    coloured = at_a_terminal(80, {"TERM": "xterm", "LC_ALL": "C.UTF-8"}, *this_map)
    assert "\033[32m" in coloured and "█" in coloured
    no_colour = at_a_terminal(80, {"TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}, *this_map)
    assert "\033" not in no_colour and "█" in no_colour
    for environment in [{"TERM": "dumb", "LC_ALL": "C.UTF-8"}, {"TERM": "xterm", "LC_ALL": "C"}]:
        at_a_terminal(80, environment, *this_map).encode("ascii")
        assert "\033" not in at_a_terminal(80, environment, *this_map)
    cells = "".join(re.findall(r"^0x[0-9a-f]+  (\S+)\r$", no_colour, re.M))
    for columns, fit in [(80, 64), (77, 64), (76, 32), (20, 4), (14, 1), (5, 1)]:
        narrow = at_a_terminal(columns, {"TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}, *this_map)
        rows = re.findall(r"^0x[0-9a-f]+  (\S+)\r$", narrow, re.M)
        assert max(map(len, rows)) == fit and "".join(rows) == cells, (columns, rows)
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CTL, [CTL, "--admin", daemon.admin, "top", "--interval", "0.05"], {**os.environ, "TERM": "dumb"})
    text = read_until(fd, b"SESSION")
    text = read_until(fd, b"SESSION", text[text.index(b"SESSION") + 7 :])  # one frame behind the other
    assert b"\033" not in text
    os.kill(pid, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == DONE
    os.close(fd)


def check_full_disk(daemon, holder):
    """What could not be written is no success, and told once."""
    session, offset = holder.session, holder.offsets[0]
    for verb in [
        "status", "sessions", f"spans {session}", f"map {session}", f"disasm {session} {offset}", f"dump {session}",
        f"dump {session} {offset}", "top --once --interval 0.05", "top --interval 0.05", "metrics", "reload", "log-level info",
        f"doctor --socket {daemon.socket}", f"policy explain --uid 0 --config {daemon.config}",
    ]:  # fmt: skip
        for form in [[], ["--json"]]:
            check_one_full_disk(daemon, [*verb.split(), *form])
    for rest in [["map", str(session), "--svg"], ["--help"], ["-h"], ["--version"], ["-V"]]:
        check_one_full_disk(daemon, rest)
    for option in ["--help", "--version"]:
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([daemon.program, option], stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == FAILED and b"No space left" in done.stderr, done


def check_one_full_disk(daemon, arguments):
    environment = {**os.environ, "JITBROKER_ADMIN": daemon.admin, "JITBROKER_DAEMON": daemon.program}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([CTL, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == FAILED and "No space left" in done.stderr, f"{arguments}: {done}"
    assert done.stderr.count("\n") == 1, f"{arguments}: {done.stderr}"


def is_caught(pid, number):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (mask,) = re.findall(r"^SigCgt:\s*(\w+)$", file.read(), re.M)
    return int(mask, 16) >> (number - 1) & 1 != 0


def check_hanging_daemon(daemon):
    """Whoever asks a daemon that hangs is told so after a time, and may give up before."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        done = ctl(daemon, "status", expect=NO_ANSWER)
        assert "has said nothing for 10 s" in done.stderr
        with subprocess.Popen([CTL, "--admin", daemon.admin, "top"], stdin=subprocess.DEVNULL) as top:
            while not is_caught(top.pid, signal.SIGINT):
                assert top.poll() is None
            time.sleep(0.1)  # now it has asked, or the signal is seen behind the answer
            top.send_signal(signal.SIGINT)
            assert top.wait() == DONE
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def check_changes(daemon, holder):
    keys(ctl_json(daemon, "reload"), "done", "text")
    daemon.configure("[class default]\nspan_max=0\n")
    assert re.search(r"/conf:2: .*span_max", ctl(daemon, "reload", expect=FAILED).stderr)
    assert "NOT in force" in ctl(daemon, "status").stdout and ctl_json(daemon, "status")["policy_mistake"] != ""
    daemon.configure("[class default]\n")
    assert "in force" in ctl(daemon, "reload").stdout and ctl_json(daemon, "status")["policy_mistake"] == ""
    assert "debug" in ctl(daemon, "log-level", "debug").stdout
    assert ctl_json(daemon, "status")["log_level"] == "debug"
    keys(ctl_json(daemon, "log-level", "info"), "done", "text")

    other = Holder(daemon)
    assert "--yes" in ctl(daemon, "revoke", other.session, expect=USAGE).stderr  # nobody is there to ask
    assert other.write() == "ok"
    assert ctl_json(daemon, "revoke", other.session, "--yes")["done"] is True
    assert "revoked by the operator" in other.write() and holder.write() == "ok"
    other.stop()
    ctl(daemon, "revoke", other.session, "--yes", expect=FAILED)


def check_keys_of_the_manual():
    """Those that were seen are those that it has."""
    with open(f"{SOURCE}/docs/jitbrokerctl.1", encoding="utf-8") as file:
        section = file.read().split(".Sh JSON\n")[1].split("\n.El\n")[0]
    names = {word for line in re.findall(r"^\.Va (.*)$", section, re.M) for word in re.findall(r"\w+", line)}
    assert names == KEYS_SEEN, f"only in the manual, or only in the answers: {names ^ KEYS_SEEN}"


def check_metrics_of_the_manual(daemon):
    names = set(re.findall(r"^jitbroker_(\w+)", ctl(daemon, "metrics").stdout, re.M))
    names = {re.sub("_(bucket|count|sum)$", "", name) for name in names}
    with open(f"{SOURCE}/docs/jitbrokerctl.1", encoding="utf-8") as file:
        section = file.read().split(".Sh METRICS\n")[1].split("\n.El")[0]
    told = {word for line in re.findall(r"^\.It Li (.*)$", section, re.M) for word in re.findall(r"\w+", line)}
    assert told == names, f"only in the manual, or only in the metrics: {told ^ names}"


def check_revoke_at_a_terminal(daemon, holder):
    for answer, status in [(b"n\n", USAGE), (b"\n", USAGE), (b"y\n", DONE)]:
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(CTL, [CTL, "--admin", daemon.admin, "revoke", str(holder.session)])
        read_until(fd, b"[y/N] ")
        os.write(fd, answer)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
        os.close(fd)
    assert "revoked by the operator" in holder.write()


# ---- The command line -----------------------------------------------------------------------


def check_exit_statuses(daemon):
    for verb in ["spans", "map", "dump", "revoke --yes", "disasm"]:
        arguments = [*verb.split(), 999] + ([64] if verb == "disasm" else [])
        assert "no session 999" in ctl(daemon, *arguments, expect=FAILED).stderr
    for wrong in [
        "", "nonsense", "spans", "spans x", "spans 0", "spans 1 2", "spans -1", "disasm 1", "disasm 1 y", "dump",
        "status 1", "top --interval 0", "top --interval x", "top --interval 3601", "status --once", "status --svg",
        "map 1 --svg --json", "spans 1 --yes", "metrics --svg", "status --uid 1", "status --socket x", "log-level",
        "log-level loud", "policy", "policy nonsense", "status --nonsense", "spans 18446744073709551616",
    ]:  # fmt: skip
        ctl(daemon, *wrong.split(), expect=USAGE)
    done = subprocess.run([CTL, "--admin", daemon.folder + "/nobody", "status"], capture_output=True, check=False)
    assert done.returncode == NO_ANSWER and b"No such file" in done.stderr
    done = subprocess.run([CTL, "--admin", "x" * 200, "status"], capture_output=True, check=False)
    assert done.returncode == NO_ANSWER and b"too long" in done.stderr
    environment = {**os.environ, "JITBROKER_ADMIN": daemon.admin}
    assert subprocess.run([CTL, "status"], env=environment, capture_output=True, check=False).returncode == DONE
    if AS_ROOT:
        os.chmod(daemon.admin, 0o666)
        done = ctl_of_another_user(daemon)
        assert done.returncode == NO_ANSWER and b"members of the group" in done.stderr, done
        os.chmod(daemon.admin, 0o660)
        done = ctl_of_another_user(daemon)
        assert done.returncode == NO_ANSWER and b"Permission denied" in done.stderr, done
    else:
        print("not tried: another user's call (needs root)")


def ctl_of_another_user(daemon):
    """Its own copy, as the build tree may not be everybody's to read."""
    program = f"{daemon.folder}/jitbrokerctl"
    libraries = f"{daemon.folder}/libraries"
    if not os.path.exists(program):
        shutil.copy(CTL, program)
        os.mkdir(libraries)
        built = os.path.join(os.path.dirname(os.path.dirname(CTL)), "client")
        for name in os.listdir(built):
            if name.startswith("libjitclient.so"):
                shutil.copy(os.path.join(built, name), libraries)
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    command = [program, "--admin", daemon.admin, "status"]
    return subprocess.run(command, capture_output=True, check=False, env=environment, **user(CLIENT_UID))


def complete(daemon, line):
    """What bash would offer behind that line."""
    script = (
        f'source {SOURCE}/tools/jitbrokerctl.bash; COMP_WORDS=({line} ""); '
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
        'if [ -n "$CUT" ]; then unset "COMP_WORDS[$COMP_CWORD]"; COMP_CWORD=$((COMP_CWORD - 1)); fi; '
        '_jitbrokerctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "JITBROKER_ADMIN": daemon.admin, "CUT": "" if line.endswith(" ") else "1"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "", done.stderr
    return done.stdout.split()


def check_completion(daemon, holder):
    help_text = ctl(daemon, "--help").stdout
    verbs = re.findall(r"^  ([a-z-]+) ", help_text.split("Options:")[0], re.M)
    assert len(verbs) == 14 and complete(daemon, f"{CTL} ") == verbs
    assert complete(daemon, f"{CTL} st") == ["status"] and complete(daemon, f"{CTL} --json re") == ["revoke", "reload"]
    offered = {option for verb in ["", *verbs] for option in complete(daemon, f"{CTL} {verb} -")}
    assert offered == set(re.findall(r"--[a-z]+", help_text.split("Options:")[1])), offered
    for verb in verbs:  # what is offered is taken, and nothing else is
        for option in sorted(offered - {"--help", "--version"}):
            value = [] if option in ("--json", "--svg", "--once", "--yes") else ["1"]
            command = [CTL, verb, option, *value, "1", "2", "3"]  # more arguments than any verb takes
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == USAGE
            is_refused = "is not for the verb" in done.stderr
            assert is_refused != (option in complete(daemon, f"{CTL} {verb} -")), f"{verb} {option}: {done.stderr}"
    assert complete(daemon, f"{CTL} spans ") == [str(holder.session)]
    assert complete(daemon, f"{CTL} --admin {daemon.admin} map ") == [str(holder.session)]
    assert complete(daemon, f"{CTL} --admin {daemon.folder}/nobody map ") == []
    assert complete(daemon, f"{CTL} log-level de") == ["debug"] and complete(daemon, f"{CTL} policy ") == ["explain"]
    assert complete(daemon, f"{CTL} disasm 1 ") == [] and complete(daemon, f"{CTL} --output {daemon.admin[:-1]}") == [daemon.admin]


def check_upgrade():
    daemon = Daemon("--supervise")
    before = ctl_json(daemon, "status")
    assert before["supervisor"] == daemon.process.pid and before["store"]
    upgraded = ctl_json(daemon, "upgrade")
    keys(upgraded, "version", "pid", "sessions_adopted")
    assert upgraded["pid"] not in (before["pid"], daemon.process.pid) and upgraded["sessions_adopted"] == 0
    assert ctl_json(daemon, "status")["pid"] == upgraded["pid"]
    assert re.search(r"process \d+, goes on with 0 sessions", ctl(daemon, "upgrade").stdout)
    check_top_over_a_restart(daemon)
    daemon.configure("nonsense\n")
    now = ctl_json(daemon, "status")["pid"]
    assert f"process {now} goes on serving" in ctl(daemon, "upgrade", expect=FAILED).stderr
    daemon.stop()


def check_top_over_a_restart(daemon):
    """It goes on with the next daemon; if there is none, it says so where that is seen."""
    command = [CTL, "--admin", daemon.admin, "top", "--json", "--interval", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        for _ in range(3):
            json.loads(top.stdout.readline())
            os.kill(ctl_json(daemon, "status")["pid"], signal.SIGKILL)
            while ctl(daemon, "status", expect=None).returncode != DONE:
                pass
        json.loads(top.stdout.readline())
        top.terminate()
        for line in top.stdout:
            json.loads(line)
        assert top.wait() == DONE


def check_top_when_the_daemon_has_gone():
    daemon = Daemon()
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CTL, [CTL, "--admin", daemon.admin, "top", "--interval", "0.05"], {**os.environ, "TERM": "xterm"})
    text = read_until(fd, b"SESSION")
    daemon.stop()
    text = read_until(fd, b"a daemon is waited for", text)
    text = read_until(fd, b"no other answers", text)
    assert text.index(b"\033[?1049l") < text.index(b"no other answers")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == NO_ANSWER
    os.close(fd)


def main():
    check_upgrade()
    check_top_when_the_daemon_has_gone()
    daemon = Daemon()
    with contextlib.ExitStack() as stack:
        stack.callback(daemon.stop)
        holder = Holder(daemon)
        stack.callback(holder.stop)
        check_status(daemon, holder)
        check_sessions(daemon, holder)
        check_spans(daemon, holder)
        check_map(daemon, holder)
        check_code(daemon, holder)
        check_metrics(daemon, holder)
        check_top(daemon, holder)
        check_top_at_a_terminal(daemon)
        check_terminals(daemon, holder)
        check_full_disk(daemon, holder)
        check_changes(daemon, holder)
        assert "has no supervisor" in ctl(daemon, "upgrade", expect=FAILED).stderr
        check_policy(daemon)
        check_exit_statuses(daemon)
        check_completion(daemon, holder)
        check_doctor(daemon)
        check_keys_of_the_manual()
        check_metrics_of_the_manual(daemon)
        check_hanging_daemon(daemon)
        check_revoke_at_a_terminal(daemon, holder)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
