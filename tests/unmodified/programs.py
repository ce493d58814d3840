# SPDX-License-Identifier: MIT
"""The programs of the table: what each has to do, and what proves that its JIT was on.

In a command {here} is the folder of the workloads, {scratch} one for what is made of them, {0} and {1} are
sizes: `brief` in a test, `full` where time is measured. What a program found out are the lines of its output
that match `result`; they must be those of the bare run. `proof` must match its output too: the group, or
else the number of matches, is shown in `proved`, and may not be 0. Where to print that would take part of
the time, or the program has no word for it, it comes from another run (`prover`), or from what the preloaded
library counted, whose line is added to the output.
"""
from dataclasses import dataclass, field


@dataclass
class Program:
    name: str
    package: str
    command: str
    brief: str
    full: str
    proof: str
    proved: str
    result: str = r"^result .*"
    prover: str = ""
    fault: str = r"\S.*"  # the line that says why it can't go on
    aim: float = 0  # time under it to time bare; 0: there is none
    environment: dict = field(default_factory=dict)
    silent: bool = False  # without its JIT it interprets, and says nothing
    clients: int = 0  # of a server: the command is a client's, and so many run at once
    private_broker: bool = False
    needs: str = ""  # what is made beforehand, see table.py, and how much of it
    needs_brief: str = ""
    needs_full: str = ""
    also: str = ""  # what must be installed and isn't in the command


FLIPS = r"flips=(\d+)"
PHP = "/usr/bin/php8.2 -d opcache.enable_cli=1 -d opcache.file_update_protection=0 -d opcache.jit_buffer_size=16M"
NODE = "/usr/bin/node --allow-natives-syntax {here}/"
JAVA = "/usr/bin/java -XX:+PrintCompilation -cp {scratch} Compute {0} {1}"
QEMU = "/usr/bin/qemu-x86_64"
SEARCH = r"-c '(\w+\d) (?:[a-z]+\d+ ){{2,4}}(\w+)@\w+\.org(\d).*\b\w*\3 ' {scratch}/lines"
# libffi that may make no memory executable writes its closures into a file in /tmp and maps that, which is
# no better than what it may not do: so no files.
CTYPES = "/usr/bin/prlimit --fsize=0 /usr/bin/python3 {here}/closures.py"


def lli(kind, proof=r"X86 DAG->DAG Instruction Selection", proved="selected instructions: {} times", fault=r"\S.*"):
    return Program(
        f"lli-14, {kind}", "llvm-14-runtime",
        f"/usr/bin/lli-14 -time-passes -jit-kind={kind} {{here}}/compute.ll {{0}}", "30", "1500", proof, proved,
        environment={"JITDUMPDIR": "{scratch}"}, fault=fault,
    )  # fmt: skip


def php(kind):
    return Program(
        f"PHP 8.2, {kind} JIT", "php8.2-opcache",
        f"{PHP} -d opcache.jit={kind} {{here}}/compute.php {{0}}", "10", "400",
        r"^jit: on 1, (\d+) bytes", "{} bytes of code", aim=1.05,
    )  # fmt: skip


PROGRAMS = [
    Program("LuaJIT, compute", "luajit", "/usr/bin/luajit {here}/compute.lua {0}", "200", "12000",
            r"^jit: (\d+) traces", "{} traces", aim=1.05),
    Program("LuaJIT, 3,000 loops", "luajit", "/usr/bin/luajit {here}/traces.lua 1 {0}", "20", "600",
            r"^jit: (\d+) traces", "{} traces", aim=1.3),
    Program("LuaJIT, 3,000 loops 40 times anew", "luajit", "/usr/bin/luajit {here}/traces.lua {0} 1", "2", "40",
            r"^jit: (\d+) traces", "{} traces"),
    lli("mcjit", FLIPS, "flips: {}", "LLVM ERROR.*"),
    lli("orc"),
    lli("orc-lazy"),
    Program("PostgreSQL 15, jit=on, 4 backends", "postgresql-15",
            "/usr/lib/postgresql/15/bin/psql -q -h {scratch} -d postgres -v rounds={0} -f {here}/jit.sql",
            "1", "12", r"^ +Functions: (\d+)", "EXPLAIN: {} functions compiled", result=r"^result\|.*", aim=1.05,
            fault=r"ERROR.*", clients=4, needs="cluster", needs_brief="10000", needs_full="300000",
            also="/usr/lib/postgresql/15/lib/llvmjit.so"),
    Program("pgbench, 4 clients", "postgresql-15",
            "/usr/lib/postgresql/15/bin/pgbench -n -h {scratch} -c 4 -j 2 -t {0} --random-seed 1 -f {here}/pgbench.sql "
            "postgres", "2", "20", FLIPS, "flips: {}", result=r"^number of (?:transactions|failed).*", aim=1.05,
            fault=r".*ERROR.*", clients=1, needs="cluster", needs_brief="10000", needs_full="300000",
            also="/usr/lib/postgresql/15/lib/llvmjit.so"),
    php("function"),
    php("tracing"),
    Program("PHP 8.2, 4 workers that fork", "php8.2-opcache",
            PHP + " -d opcache.jit=tracing {here}/workers.php {scratch} {0} {1}", "3 2000", "10 20000",
            r"^jit: ([1-9]\d*) bytes", "{} bytes of code", aim=1.05),
    Program("grep -P", "grep", "/usr/bin/grep -P " + SEARCH, "", "", FLIPS, "flips: {}", result=r"^\d+$",
            silent=True, needs="lines", needs_brief="2", needs_full="100"),
    Program("pcre2grep", "pcre2-utils", "/usr/bin/pcre2grep " + SEARCH, "", "", FLIPS, "flips: {}", result=r"^\d+$",
            silent=True, needs="lines", needs_brief="2", needs_full="100"),
    Program("pcre2test", "pcre2-utils", "/usr/bin/pcre2test -q -tm {0} {here}/patterns.txt", "1000", "100000",
            r"\(JIT\)$", "{} matches by machine code", result=r"^(?: \d+: .*?|No match)(?= \(JIT\)$|$)", silent=True),
    Program("ctypes, sort by a closure", "python3", CTYPES + " qsort {0}", "5000", "200000",
            r"^jit: (\d+) closure", "{} closure", fault=r"^\w*Error.*"),
    Program("ctypes, 20,000 closures", "python3", CTYPES + " 20000 {0}", "1", "30",
            r"^jit: (\d+) closures", "{} closures", fault=r"^\w*Error.*"),
    Program("node, compute", "nodejs", NODE + "compute.js {0}", "10", "800", r"^jit: (\d+) functions optimized",
            "{} functions optimized", aim=1.05, fault=r"# (?!Fatal error in)\S.*"),
    Program("node, WebAssembly", "nodejs", NODE + "wasm.js {0} {1}", "10 100", "40 250",
            r"^jit: (\d+) modules", "{} modules compiled", aim=1.05, fault=r"# (?!Fatal error in)\S.*"),
    Program("node, 4 worker threads", "nodejs", NODE + "workers.js {0} {1}", "4 10", "4 500",
            r"^jit: optimized in (\d+) threads", "optimized in {} threads", aim=1.05,
            fault=r"# (?!Fatal error in)\S.*"),
    Program("Java 17, one thread", "openjdk-17-jre-headless", JAVA, "1 200", "1 8000", r" [1-4] +Compute::\w+",
            "its methods compiled {} times", aim=1.05, fault=r"^(?!Error occurred).*", needs="classes"),
    Program("Java 17, 4 threads", "openjdk-17-jre-headless", JAVA, "4 100", "4 4000", r" [1-4] +Compute::\w+",
            "its methods compiled {} times", aim=1.05, fault=r"^(?!Error occurred).*", needs="classes"),
    Program("qemu-x86_64", "qemu-user", QEMU + " /usr/bin/luajit -joff {here}/compute.lua {0}", "2", "150",
            r"^OUT:", "{} blocks translated", prover=QEMU + " -d out_asm /bin/true"),
    Program("Guile 3", "guile-3.0", "/usr/bin/guile {here}/compute.scm {0}", "40", "2000",
            r"jit: vcode: start", "{} procedures compiled", environment={"GUILE_JIT_LOG": "1"}),
    Program("SBCL", "sbcl", "/usr/bin/sbcl --script {here}/compute.lisp {0} {1}", "20 100", "200 2000",
            r"^jit: (\d+) functions", "{} functions compiled"),
    Program("LuaJIT, compute, --private-broker", "luajit", "/usr/bin/luajit {here}/compute.lua {0}", "200", "12000",
            r"^jit: (\d+) traces", "{} traces", private_broker=True),
]  # fmt: skip
