# SPDX-License-Identifier: MIT
"""Where the programs run: a folder of their own, a user of their own, and a daemon that serves it.

What they need is copied into the folder, since a build directory may be closed to other users. Nothing of
the caller's environment gets in.
"""
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
AS_ROOT = os.geteuid() == 0
DAEMON_UID = 64911
PARTS = (  # of a build directory; the launcher finds the others beside itself
    "daemon/jitbrokerd", "tools/jitbroker-run", "tests/unmodified/unmodified-locked", "preload/libjitpreload.so",
    "client/libjitclient.so.0",
)  # fmt: skip
PROGRAM_UID = 65534  # nobody: PostgreSQL wants a user that has a name


class Wrong(Exception):
    """Something isn't as it must be."""


def user(uid):
    return {"user": uid, "group": uid, "extra_groups": []} if AS_ROOT else {}


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Run:
    """What a command printed, so many at once, how the worst of them ended, and how long they took."""

    def __init__(self, command, environment, copies=1):
        begun = time.monotonic()
        processes = [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                cwd=environment["HOME"], text=True, errors="replace", preexec_fn=no_core, **user(PROGRAM_UID),
            )
            for _ in range(copies)
        ]  # fmt: skip
        printed = [process.communicate() for process in processes]
        self.seconds = time.monotonic() - begun
        self.status = max((process.returncode for process in processes), key=abs)
        self.text = "".join(errors + out for out, errors in printed)
        self.counted = ""  # by the preloaded library

    def ended(self):
        return signal.Signals(-self.status).name if self.status < 0 else f"status {self.status}"

    def must_succeed(self, what):
        if self.status != 0:
            raise Wrong(f"{what}: {self.ended()}\n{self.tail()}")
        return self

    def tail(self):
        return "\n".join((self.text + self.counted).splitlines()[-15:])


class Place:
    def __init__(self, build):
        self.folder = tempfile.mkdtemp(prefix="jitbroker-table-")
        os.chmod(self.folder, 0o755)
        self.here = shutil.copytree(HERE, f"{self.folder}/here")
        self.scratch, self.socket, self.log = (f"{self.folder}/{name}" for name in ("scratch", "socket", "scratch/log"))
        for part in PARTS:
            os.makedirs(os.path.dirname(f"{self.folder}/{part}"), exist_ok=True)
            shutil.copy(f"{build}/{part}", f"{self.folder}/{part}")
        self.daemon_program, self.launcher, self.locked = (f"{self.folder}/{part}" for part in PARTS[:3])
        os.mkdir(self.scratch)
        with open(f"{self.folder}/conf", "w", encoding="utf-8") as file:
            file.write("[class default]\n")
        if AS_ROOT:
            os.chown(self.folder, DAEMON_UID, DAEMON_UID)
            os.chown(self.scratch, PROGRAM_UID, PROGRAM_UID)
        self.start_daemon()

    def start_daemon(self):
        command = [self.daemon_program, f"--socket={self.socket}", f"--config={self.folder}/conf"]
        with open(f"{self.folder}/daemon.log", "w", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(command, stderr=log, **user(DAEMON_UID))
        while not os.path.exists(self.socket):
            if self.daemon.poll() is not None:
                raise Wrong("the daemon has ended")
            time.sleep(0.001)

    def stop(self):
        self.daemon.terminate()
        status = self.daemon.wait()
        with open(f"{self.folder}/daemon.log", encoding="utf-8") as log:
            said = log.read()
        shutil.rmtree(self.folder)
        if status != 0:
            raise Wrong(f"the daemon ended with {status}\n{said}")

    def fill(self, text, sizes=""):
        return text.format(*sizes.split(), here=self.here, scratch=self.scratch)

    def environment(self, more=None):
        here = {
            "PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": self.scratch, "XDG_CACHE_HOME": self.scratch,
            "LD_LIBRARY_PATH": f"{self.folder}/client",
        }  # fmt: skip
        return here | {name: self.fill(text) for name, text in (more or {}).items()}

    def run(self, command, sizes="", way=(), environment=None, copies=1):
        return Run([*way, *shlex.split(self.fill(command, sizes))], self.environment(environment), copies)

    def without(self):
        """Locked down, and nobody to make memory executable."""
        return [self.locked]

    def under(self, private_broker=False, counts=False):
        broker = ["--private-broker"] if private_broker else ["--socket", self.socket]
        return [self.launcher, *broker, *(["--stats", "--log", self.log] if counts else []), "--"]

    def take_log(self):
        """What the library counted, in all processes that have ended since."""
        try:
            with open(self.log, encoding="utf-8") as log:
                text = log.read()
            os.unlink(self.log)
        except FileNotFoundError:
            text = ""
        return text
