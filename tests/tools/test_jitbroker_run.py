#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""jitbroker-run: what a program finds, what it is refused, and how it is told that it can't be run.

    test_jitbroker_run.py JITBROKER_RUN PRELOAD CLIENT PROBE SOURCE

As root, daemon and program are two other users. All is copied to where these can read it.
"""
import contextlib
import ctypes
import errno
import os
import pathlib
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

LAUNCHER, PRELOAD, CLIENT, PROBE, SOURCE = sys.argv[1:6]
DAEMON_UID, CLIENT_UID, OTHER_UID = 64921, 64922, 64923
AS_ROOT = os.geteuid() == 0
LAUNCHERS, UNFIT, NOT_THERE = 125, 126, 127
EPERM, EACCES, ECHILD = -errno.EPERM, -errno.EACCES, -errno.ECHILD
CONNECTION = re.compile(r"fd=(9\d\d:\d+:\d+|-+),")  # the library strikes it out
PT_NULL, PT_INTERP, PT_GNU_STACK, PF_X = 0, 3, 0x6474E551, 1
EM_S390 = 22


def user(uid):
    return {"user": uid, "group": uid, "extra_groups": []} if AS_ROOT else {}


class Place:
    """The programs, as in a build tree: what is beside the launcher is found from there."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="jitbroker-run-test-")
        os.chmod(self.folder, 0o777)
        self.launcher = self.copy(LAUNCHER, "tools/jitbroker-run")
        self.library = self.copy(PRELOAD, "preload/libjitpreload.so")
        self.daemon = self.copy(os.environ["JITBROKER_DAEMON"], "daemon/jitbrokerd")
        self.copy(CLIENT, "lib/libjitclient.so.0")
        self.probe = self.copy(PROBE, "probe")
        self.empty = self.file("empty", "")
        self.environment = {
            "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": f"{self.folder}/lib", "JITBROKER_SOCKET": f"{self.folder}/socket",
        }  # fmt: skip
        config = self.file("conf", "[class default]\n")
        self.process = subprocess.Popen(
            [self.daemon, f"--socket={self.folder}/socket", f"--config={config}"],
            stderr=subprocess.DEVNULL, **user(DAEMON_UID),
        )  # fmt: skip
        while not os.path.exists(f"{self.folder}/socket"):
            assert self.process.poll() is None, "the daemon has ended"
            time.sleep(0.001)

    def copy(self, source, name):
        path = f"{self.folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return shutil.copy(os.path.realpath(source), path)

    def file(self, name, text, mode=0o644):
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)

    def run(self, *arguments, expect=0, uid=CLIENT_UID, environment=(), **more):
        """Runs the launcher with these arguments. An environment variable that is None is left out."""
        all_of_it = {**self.environment, **dict(environment)}
        command = [self.launcher, *arguments]
        more = {"stdin": subprocess.DEVNULL, "capture_output": True, **user(uid), **more}
        done = subprocess.run(
            command, text=True, check=False, env={k: v for k, v in all_of_it.items() if v is not None}, **more
        )
        assert done.returncode == expect, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def refused(self, part, *arguments, expect=UNFIT, **more):
        """It says so in one line, and runs nothing."""
        told = self.run(*arguments, expect=expect, **more)
        assert not told.stdout, f"{arguments} printed {told.stdout}"
        assert told.stderr.startswith("jitbroker-run: ") and told.stderr.count("\n") == 1, told.stderr
        assert part in told.stderr, f"no '{part}' in: {told.stderr}"

    def brokers(self):
        """The private ones that run."""
        found = []
        for cmdline in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = cmdline.read_bytes().split(b"\0")
                if words[0].decode(errors="replace") == self.daemon and b"--fd=3" in words:
                    found.append(int(cmdline.parent.name))
        return found

    def await_no_broker(self):
        """However long it takes: a test that hangs has a limit elsewhere."""
        while self.brokers() or "@jitbroker-run-" in pathlib.Path("/proc/net/unix").read_text(encoding="ascii"):
            time.sleep(0.005)


def lines(done):
    return done.stdout.splitlines()


# ---- What the program finds ------------------------------------------------------------------------


def the_exit_status_is_the_programs(place):
    for status in (0, 1, 77, 255):
        place.run(place.probe, f"exit={status}", expect=status)
    place.run(place.probe, f"kill={int(signal.SIGUSR1)}", expect=-signal.SIGUSR1)


def arguments_are_kept_also_empty_ones(place):
    for dashes in ([], ["--"]):
        done = place.run(*dashes, place.probe, "arguments", "", "--stats", "--", "a b", "")
        assert lines(done) == [f"<{place.probe}>", "<arguments>", "<>", "<--stats>", "<-->", "<a b>", "<>"], done.stdout


def the_environment_is_kept_and_the_library_comes_first(place):
    environment = {"EMPTY": "", "ODD": "a=b\nc", "JITBROKER_RUN": "of another launcher"}
    done = place.run(
        place.probe, *(f"env={name}" for name in ("EMPTY", "LD_PRELOAD", "JITBROKER_RUN", "JITBROKER_SOCKET", "PATH")),
        "env=ODD", environment=environment,
    )  # fmt: skip
    assert CONNECTION.fullmatch(lines(done)[2]), done.stdout
    assert lines(done) == ["", place.library, lines(done)[2], f"{place.folder}/socket", "/usr/bin:/bin", "a=b", "c"], done.stdout
    for others, value in (("", place.library), (f"{place.folder}/lib/libjitclient.so.0", None)):
        done = place.run(place.probe, "env=LD_PRELOAD", environment={"LD_PRELOAD": others})
        assert lines(done) == [value or f"{place.library}:{others}"], done.stdout
    done = place.run("env", environment={"EMPTY": ""})
    names = {line.split("=")[0] for line in lines(done)}
    assert names - set(place.environment) == {"EMPTY", "LD_PRELOAD", "JITBROKER_RUN"}, names


def options_are_told_to_the_library(place):
    options = ["--stats", "--no-rwx", "--log", "log", "--socket", "socket"]
    done = place.run(*options, place.probe, "env=JITBROKER_RUN", "env=JITBROKER_SOCKET", cwd=place.folder,
                     environment={"JITBROKER_SOCKET": "/nonexistent"})  # fmt: skip
    words, socket = lines(done)
    assert CONNECTION.sub("", words) == f"stats,no-rwx,log={place.folder}/log", words
    assert socket == f"{place.folder}/socket"
    mode = os.stat(f"{place.folder}/log")
    assert stat.S_IMODE(mode.st_mode) == 0o600 and (not AS_ROOT or mode.st_uid == CLIENT_UID)
    os.unlink(f"{place.folder}/log")


def a_log_has_a_path_of_255_bytes(place):
    fits = f"{place.folder}/".ljust(255, "x")
    place.run("--stats", "--log", fits, place.probe, "jit")
    with open(fits, encoding="utf-8") as file:
        assert "flips=1 " in file.read()
    place.refused("File name too long", "--log", fits + "x", place.probe, expect=LAUNCHERS)


def standard_streams_that_are_closed_stay_closed(place):
    def fds(closing, *options):
        script = f'exec "$0" "$@" {closing}'
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(
                ["sh", "-c", script, place.launcher, *options, place.probe, "fds"],
                env=place.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, **user(CLIENT_UID),
            )  # fmt: skip
            out.seek(0)
            assert done.returncode == 0
            return [int(line.split()[1]) for line in out.read().splitlines()]

    for private in ((), ("--private-broker",)):
        for closing, open_ones in (("", [0, 1, 2]), ("<&-", [1, 2]), ("2>&-", [0, 1]), ("<&- 2>&-", [1])):
            found = fds(closing, *private)
            low, high = ([fd for fd in found if fd <= 2], [fd for fd in found if fd >= 900])
            assert low == open_ones and len(high) >= len(private), f"{private} {closing}: {found}"


def no_standard_stream_is_needed(place):
    script = 'exec "$0" --private-broker "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, place.launcher, place.probe, "jit", "exit=3"], env=place.environment, check=False, **user(CLIENT_UID)
    )
    assert done.returncode == 3
    place.await_no_broker()


def descriptors_of_the_caller_are_passed_on(place):
    ours = os.open("/dev/null", os.O_RDONLY)
    os.dup2(ours, 77)
    done = place.run(place.probe, "fds", pass_fds=[77])
    assert "fd 77" in lines(done), done.stdout
    os.close(ours)
    os.close(77)


def descriptors_of_the_caller_are_not_the_brokers(place):
    """The broker goes on, and the reader meets the end of what the program could write."""
    end, ours = os.pipe()
    with subprocess.Popen(
        [place.launcher, "--private-broker", place.probe, "close=900", "linger"],
        env=place.environment, stdin=subprocess.PIPE, pass_fds=[ours], **user(CLIENT_UID),
    ) as process:  # fmt: skip
        os.close(ours)
        assert os.read(end, 1) == b"" and len(place.brokers()) == 1
        process.stdin.close()
    os.close(end)
    place.await_no_broker()


# ---- What is taken away --------------------------------------------------------------------------------


def profiles_take_away_what_they_say(place):
    words = ["status=NoNewPrivs", "status=Seccomp:", "mdwe", "memfd", "mem"]
    free = ["NoNewPrivs:\t0", "Seccomp:\t0", "mdwe 0", "memfd 0", "mem 0"]
    locked = ["NoNewPrivs:\t1", "Seccomp:\t2", "mdwe 1", f"memfd {EPERM}", f"mem {EACCES}"]
    for options, expected in (
        (["--profile", "none"], free), ([], locked), (["--profile=standard"], locked), (["--profile=strict"], locked),
    ):  # fmt: skip
        done = place.run(*options, place.probe, *words)
        assert lines(done) == expected, f"{options}: {done.stdout}"


def what_this_kernel_lacks_is_told(place):
    """Where a call is not to be had, as on an older kernel, or one that was built without."""

    def run(call, *options):
        command = [place.probe, f"refuse={call}:{errno.ENOSYS}", "exec", place.launcher, *options, place.probe, "jit"]
        return subprocess.run(
            command, env=place.environment, capture_output=True, text=True, check=False, **user(CLIENT_UID)
        )  # fmt: skip

    landlock_create_ruleset, seccomp = 444, 317
    done = run(landlock_create_ruleset)
    assert done.returncode == 0 and lines(done) == ["refuse 0", "jit 41"], done
    assert done.stderr.count("\n") == 1 and "LANDLOCK: " in done.stderr and "going on without" in done.stderr, done.stderr
    done = run(landlock_create_ruleset, "--profile=strict")
    assert done.returncode == LAUNCHERS and lines(done) == ["refuse 0"], done
    assert "LANDLOCK: " in done.stderr and "not started" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    for profile in ("standard", "strict"):
        done = run(seccomp, f"--profile={profile}")
        assert done.returncode == LAUNCHERS and lines(done) == ["refuse 0"], done
        assert "SECCOMP: " in done.stderr and "without the filter" in done.stderr, done.stderr
    done = run(seccomp, "--profile=none")
    assert done.returncode == 0 and lines(done) == ["refuse 0", "jit 41"] and not done.stderr, done


def few_mappings_are_told(place):
    script = 'mount --bind "$0" /proc/sys/vm/max_map_count && exec "$@"'
    if not AS_ROOT or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        print("skipped: few mappings: needs root and mount namespaces")
        return
    for count, is_told in ((16383, True), (16384, False)):
        file = place.file("count", f"{count}\n")
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, file, place.launcher, place.probe, "jit"],
            env=place.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ("vm.max_map_count is 16383" in done.stderr) == is_told and lines(done) == ["jit 41"], done


def strict_takes_capabilities_that_lead_around_it(place):
    if not AS_ROOT:
        print("skipped: capabilities of root: needs root")
        return
    around = [21, 16, 17, 19, 22, 33, 38, 39]  # SYS_ADMIN MODULE RAWIO PTRACE BOOT MAC_ADMIN PERFMON BPF
    words = ["status=CapEff", "status=CapBnd"]
    sets = [
        [int(line.split()[1], 16) for line in lines(place.run(*options, place.probe, *words, uid=0))]
        for options in ([], ["--profile", "strict"])
    ]
    for before, after in zip(*sets):
        assert after == before & ~sum(1 << bit for bit in around) and after != before, sets


def strict_needs_no_capset_where_there_is_nothing_to_take(place):
    """As in a service whose filter refuses @privileged."""
    if not AS_ROOT:
        print("skipped: another user than root holds no capabilities: needs root")
        return
    capset, load, equal, give, errno_of = 126, 0x20, 0x15, 0x06, 0x00050000  # x86-64; struct sock_filter, SECCOMP_RET_*
    steps = [
        (load, 0, 0, 0), (equal, 0, 1, capset), (give, 0, 0, errno_of | errno.EPERM), (give, 0, 0, 0x7FFF0000),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None)

    def refuse_capset():
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0  # no new privileges, seccomp

    done = place.run("--profile=strict", place.probe, "jit", "status=Seccomp_filters:", preexec_fn=refuse_capset)
    assert lines(done) == ["jit 41", "Seccomp_filters:\t2"], done.stdout
    place.refused("capabilities", "--profile=strict", place.probe, expect=LAUNCHERS, uid=0, preexec_fn=refuse_capset)


def code_runs_as_the_broker_wrote_it(place):
    for options in (["--profile=none"], [], ["--private-broker"], ["--profile=strict"]):
        assert lines(place.run(*options, place.probe, "jit", "rwx")) == ["jit 41", "rwx 42"], options
    done = place.run("--no-rwx", place.probe, "jit", "rwx")
    assert lines(done) in (["jit 41", f"rwx {EPERM}"], ["jit 41", f"rwx {EACCES}"]), done.stdout
    done = place.run("--stats", place.probe, "jit")
    assert "flips=1 " in done.stderr, done.stderr
    done = place.run("--stats", "--log", f"{place.folder}/log", place.probe, "jit")
    with open(f"{place.folder}/log", encoding="utf-8") as file:
        assert "flips=1 " in file.read() and not done.stderr
    os.unlink(f"{place.folder}/log")


def programs_that_it_starts_are_served_too(place):
    for private in ((), ("--private-broker",)):
        done = place.run(*private, place.probe, "child=jit", "jit", "child=jit", "jit")
        assert lines(done) == ["jit 41", "child 0", "jit 41", "jit 41", "child 0", "jit 41"], done.stdout
        done = place.run(*private, "sh", "-c", f"{place.probe} jit & {place.probe} jit & {place.probe} jit; wait")
        assert lines(done) == ["jit 41"] * 3, done.stdout


def a_program_that_may_not_connect_any_more_is_served(place):
    connect = 42
    for private in ((), ("--private-broker",)):
        done = place.run(*private, place.probe, f"refuse={connect}:{errno.EPERM}", "jit", "child=jit")
        assert lines(done) == ["refuse 0", "jit 41", f"jit {EPERM}", "child 0"], done.stdout
        assert "no broker" in done.stderr, done.stderr


def its_connection_is_for_that_process_and_no_other(place):
    for private in ((), ("--private-broker",)):
        done = place.run(*private, place.probe, "child=jit", "jit", "child=jit", "jit")
        assert lines(done) == ["jit 41", "child 0", "jit 41", "jit 41", "child 0", "jit 41"], done.stdout
    # What took its number, in a program that the process executes, is not the library's.
    done = place.run(place.probe, "jit", "again=jit")
    assert lines(done)[:3] == ["jit 41", "again", "jit 41"], done.stdout
    assert {f"fd {fd}" for fd in range(900, 906)} <= set(lines(done)), done.stdout


def a_program_without_the_library_dies_where_it_makes_code(place):
    done = place.run("env", "-i", place.probe, "child=jit", "memfd")
    assert lines(done) == [f"child {-signal.SIGSYS}", f"memfd {EPERM}"], done.stdout


# ---- A private broker ----------------------------------------------------------------------------------


def a_private_broker_leaves_nothing_behind(place):
    done = place.run("--private-broker", place.probe, "jit", "wait", "env=JITBROKER_SOCKET")
    code, waited, name = lines(done)
    assert code == "jit 41" and waited == f"wait {ECHILD}" and name.startswith("@jitbroker-run-") and len(name) == 47
    place.await_no_broker()


def a_private_broker_is_there_for_the_last_process(place):
    with subprocess.Popen(
        [place.launcher, "--private-broker", place.probe, "linger", "jit"],
        env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **user(CLIENT_UID),
    ) as process:  # fmt: skip
        assert process.wait() == 0 and len(place.brokers()) == 1
        broker = place.brokers()[0]
        streams = [os.readlink(f"/proc/{broker}/fd/{fd}") for fd in (0, 1)] if AS_ROOT else []
        assert not streams or (streams[0].startswith("pipe:") and streams[1] == "/dev/null"), streams
        assert os.getsid(broker) != os.getsid(0)  # nor the terminal's signals
        os.kill(broker, signal.SIGTERM)  # as a manager does to all of a unit
        process.stdin.close()
        assert process.stdout.read() == "jit 41\n"
    place.await_no_broker()


def a_private_broker_does_not_hold_the_programs_streams(place):
    """The reader meets the end of the program's output while program and broker are still there."""
    with subprocess.Popen(
        [place.launcher, "--private-broker", "sh", "-c", f"exec >&-; exec {place.probe} linger"],
        env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **user(CLIENT_UID),
    ) as process:  # fmt: skip
        assert process.stdout.read() == "" and len(place.brokers()) == 1
        process.stdin.close()
    place.await_no_broker()


def a_private_broker_goes_on_for_who_is_connected(place):
    done = place.run("--private-broker", place.probe, "jit", "close=2048", "jit")
    assert lines(done)[0] == "jit 41", done.stdout
    place.await_no_broker()


def a_private_broker_serves_no_other_user(place):
    if not AS_ROOT:
        print("skipped: another user's private broker: needs root")
        return
    with subprocess.Popen(
        [place.launcher, "--private-broker", place.probe, "env=JITBROKER_SOCKET", "linger"],
        env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **user(CLIENT_UID),
    ) as process:  # fmt: skip
        name = process.stdout.readline().strip()
        place.refused("in no class", "--socket", name, place.probe, "exit=0", expect=LAUNCHERS, uid=OTHER_UID)
        place.run("--socket", name, place.probe, "exit=0")
        process.stdin.close()
    place.await_no_broker()


def a_private_broker_that_cannot_start_is_told(place):
    for path, part in (("/nonexistent/jitbrokerd", "jitbrokerd is not there"), (place.empty, "Permission denied")):
        environment = {"JITBROKER_DAEMON": path}
        place.refused(part, "--private-broker", place.probe, "exit=0", expect=LAUNCHERS, environment=environment)
    environment = {"JITBROKER_DAEMON": "/bin/false"}
    place.refused("no broker", "--private-broker", place.probe, "exit=0", expect=LAUNCHERS, environment=environment)
    place.await_no_broker()


# ---- What can't be run -----------------------------------------------------------------------------------


def patched(place, name, change, mode=0o755):
    """A copy of the probe, of which `change` gets the bytes, and each program header's place and type."""
    with open(place.probe, "rb") as file:
        data = bytearray(file.read())
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    headers = [(table + i * size, struct.unpack_from("<I", data, table + i * size)[0]) for i in range(count)]
    change(data, headers)
    path = f"{place.folder}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


def without_loader(data, headers):
    (at,) = (at for at, kind in headers if kind == PT_INTERP)
    struct.pack_into("<I", data, at, PT_NULL)


def with_loader_of_musl(data, headers):
    (at,) = (at for at, kind in headers if kind == PT_INTERP)
    offset, size = struct.unpack_from("<Q", data, at + 8)[0], struct.unpack_from("<Q", data, at + 32)[0]
    data[offset : offset + size] = b"/lib/ld-musl-x86_64.so.1".ljust(size, b"\0")


def with_executable_stack(data, headers):
    (at,) = (at for at, kind in headers if kind == PT_GNU_STACK)
    struct.pack_into("<I", data, at + 4, struct.unpack_from("<I", data, at + 4)[0] | PF_X)


def of_32_bits(data, _):
    data[4] = 1


def of_another_machine(data, _):
    struct.pack_into("<H", data, 18, EM_S390)


def nothing(_data, _headers):
    pass


def programs_that_cannot_be_served_are_told(place):
    for name, change, part in (
        ("static", without_loader, "linked statically"),
        ("musl", with_loader_of_musl, "musl"),
        ("stack", with_executable_stack, "stack executable"),
        ("narrow", of_32_bits, "32-bit"),
        ("foreign", of_another_machine, "another processor (ELF machine 22)"),
    ):
        program = patched(place, name, change)
        place.refused(f"{program} ", program)
        place.refused(part, program)
        script = place.file(f"{name}-script", f"#! {program} -x\n", 0o755)
        place.refused(part, script)
        place.refused(part, place.file(f"{name}-script-script", f"#!{script}", 0o755))
    assert lines(place.run("--profile=none", f"{place.folder}/stack", "jit")) == ["jit 41"]
    assert lines(place.run(patched(place, "same", nothing), "jit")) == ["jit 41"]


def programs_with_privileges_of_others_are_told(place):
    if not AS_ROOT:
        print("skipped: programs with the setuid bit: needs root")
        return
    for name, mode, part in (("setuid", 0o4755, "is setuid"), ("setgid", 0o2755, "is setgid")):
        program = patched(place, name, nothing, mode)
        place.refused(part, program)
        place.refused(part, "--profile=none", program)
        assert lines(place.run(program, "jit", uid=0)) == ["jit 41"]  # root's own
        os.chown(program, CLIENT_UID, CLIENT_UID)
        os.chmod(program, mode)
        assert lines(place.run(program, "jit")) == ["jit 41"]
        place.refused(part, program, uid=0)
    program = patched(place, "capable", nothing)
    # Revision 2, effective; CAP_NET_RAW.
    os.setxattr(program, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
    place.refused("has file capabilities", program)
    assert lines(place.run(program, "jit", uid=0)) == ["jit 41"]


def scripts_are_followed_as_far_as_the_kernel_does(place):
    script = place.file("script-0", f"#!{place.probe} arguments\n", 0o755)
    for i in range(1, 5):
        script = place.file(f"script-{i}", f"#!{script}\n", 0o755)
    assert f"<{script}>" in lines(place.run(script))
    place.refused("Too many levels", place.file("script-5", f"#!{script}\n", 0o755))
    place.refused("/nonexistent/interpreter", place.file("lost", "#!/nonexistent/interpreter\n", 0o755), expect=NOT_THERE)
    place.refused("/empty", place.file("inert", f"#!{place.empty}\n", 0o755))
    # What is neither is the shell's.
    assert lines(place.run(place.file("shell", "echo from a shell\n", 0o755))) == ["from a shell"]


def programs_are_found_as_a_shell_finds_them(place):
    place.refused("nonesuch: No such file", "nonesuch", expect=NOT_THERE)
    place.refused("No such file", "/nonexistent/program", expect=NOT_THERE)
    place.refused("No such file", "", expect=NOT_THERE)
    place.refused("Permission denied", place.empty)
    place.refused("Permission denied", place.folder)
    os.mkdir(f"{place.folder}/bin")
    path = {"PATH": f"{place.folder}/bin:{place.folder}"}
    patched(place, "bin/probe", without_loader, 0o644)
    assert lines(place.run("probe", "jit", environment=path)) == ["jit 41"]  # past what can't be executed
    place.refused("Permission denied", "empty", environment=path)
    assert lines(place.run("probe", "jit", environment={"PATH": ":/bin"}, cwd=place.folder)) == ["jit 41"]
    assert place.run("true", environment={"PATH": None}).stdout == ""
    os.chmod(shutil.copy(place.probe, f"{place.folder}/unreadable"), 0o711)
    assert lines(place.run(f"{place.folder}/unreadable", "jit")) == ["jit 41"]


def a_wrong_command_line_is_told(place):
    for part, *arguments in (
        ("no program given",),
        ("no program given", "--stats", "--"),
        ("no such profile: lax", "--profile", "lax", "true"),
        ("exclude one another", "--private-broker", "--socket", "x", "true"),
        ("--socket: empty", "--socket", "", "true"),
        ("with a comma: a,b", "--log", "a,b", "true"),
        ("--log /nonexistent/log: No such file", "--log", "/nonexistent/log", "true"),
    ):
        place.refused(part, *arguments, expect=LAUNCHERS)
    told = place.run("--nonsense", "true", expect=LAUNCHERS)
    assert "--nonsense" in told.stderr
    assert place.run("--help").stdout.startswith("Usage: jitbroker-run ")
    assert place.run("--version").stdout.startswith("jitbroker-run 0")


def a_broker_that_is_not_there_is_told_with_what_to_do(place):
    nowhere = {"JITBROKER_SOCKET": "/nonexistent/socket"}
    place.refused("systemctl start jitbrokerd.socket), or use --private-broker", "true", expect=LAUNCHERS, environment=nowhere)
    place.refused("connecting to @nobody", "--socket", "@nobody", "true", expect=LAUNCHERS)
    place.run("true", environment={"JITBROKER_SOCKET": "/nonexistent/socket"}, expect=LAUNCHERS)
    assert lines(place.run("--private-broker", place.probe, "jit", environment=nowhere)) == ["jit 41"]


def a_library_that_is_not_there_is_told(place):
    for path, part in (("/nonexistent/library.so", "libjitpreload.so is not there"),):
        place.refused(part, "true", expect=LAUNCHERS, environment={"JITBROKER_PRELOAD": path})
    odd = place.copy(PRELOAD, "odd place/library.so")
    place.refused("blank or colon", "true", expect=LAUNCHERS, environment={"JITBROKER_PRELOAD": odd})
    other = place.copy(PRELOAD, "other/library.so")
    done = place.run(place.probe, "env=LD_PRELOAD", "jit", environment={"JITBROKER_PRELOAD": other})
    assert lines(done) == [other, "jit 41"], done.stdout
    os.rename(place.library, f"{place.library}.away")
    place.refused("libjitpreload.so is not there", "true", expect=LAUNCHERS)
    os.rename(f"{place.library}.away", place.library)


# ---- Completion ---------------------------------------------------------------------------------------------


def completion_knows_every_option(place):
    def complete(line):
        script = (
            f'source "{SOURCE}/tools/jitbroker-run.bash"; read -ra COMP_WORDS <<<"$1"; [[ $1 != *" " ]] || COMP_WORDS+=("")\n'
            'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _jitbroker_run; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True, check=True)
        return sorted(set(done.stdout.split()))

    if shutil.which("bash") is None:
        print("skipped: completion: no bash")
        return
    options = [word for line in lines(place.run("--help")) for word in line.split()[:1] if word.startswith("--")]
    assert complete("jitbroker-run --") == sorted(options) and len(options) == 8, options
    assert complete("jitbroker-run --profile ") == ["none", "standard", "strict"]
    assert complete("jitbroker-run --stats --p") == ["--private-broker", "--profile"]
    assert "true" in complete("jitbroker-run --stats tru") and "true" in complete("jitbroker-run -- tru")
    assert complete(f"jitbroker-run --log {place.folder}/emp") == [place.empty]
    assert complete(f"jitbroker-run --log x true {place.folder}/emp") == [place.empty]


TESTS = [
    the_exit_status_is_the_programs, arguments_are_kept_also_empty_ones,
    the_environment_is_kept_and_the_library_comes_first, options_are_told_to_the_library, a_log_has_a_path_of_255_bytes,
    standard_streams_that_are_closed_stay_closed, no_standard_stream_is_needed,
    descriptors_of_the_caller_are_passed_on, descriptors_of_the_caller_are_not_the_brokers,
    profiles_take_away_what_they_say, what_this_kernel_lacks_is_told, few_mappings_are_told,
    strict_takes_capabilities_that_lead_around_it, strict_needs_no_capset_where_there_is_nothing_to_take,
    code_runs_as_the_broker_wrote_it, programs_that_it_starts_are_served_too,
    a_program_that_may_not_connect_any_more_is_served, its_connection_is_for_that_process_and_no_other,
    a_program_without_the_library_dies_where_it_makes_code, a_private_broker_leaves_nothing_behind,
    a_private_broker_is_there_for_the_last_process, a_private_broker_does_not_hold_the_programs_streams,
    a_private_broker_goes_on_for_who_is_connected, a_private_broker_serves_no_other_user,
    a_private_broker_that_cannot_start_is_told, programs_that_cannot_be_served_are_told,
    programs_with_privileges_of_others_are_told, scripts_are_followed_as_far_as_the_kernel_does,
    programs_are_found_as_a_shell_finds_them, a_wrong_command_line_is_told,
    a_broker_that_is_not_there_is_told_with_what_to_do, a_library_that_is_not_there_is_told,
    completion_knows_every_option,
]  # fmt: skip


def main():
    os.umask(0o022)
    place = Place()
    failed = 0
    for test in TESTS:
        try:
            test(place)
        except Exception as problem:  # one test's failure keeps no other from being run
            failed += 1
            print(f"FAILED {test.__name__}: {type(problem).__name__}: {problem}")
    place.stop()
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
