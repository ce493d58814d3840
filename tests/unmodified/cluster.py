# SPDX-License-Identifier: MIT
"""PostgreSQL's server in a folder of its own, which compiles every query that it can, and a table."""
import contextlib
import shlex
import signal
import subprocess

from place import PROGRAM_UID, Wrong, user

BIN = "/usr/lib/postgresql/15/bin"
CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{scratch}'
fsync = off
jit = on
jit_above_cost = 0
jit_inline_above_cost = 0
jit_optimize_above_cost = 0
max_parallel_workers_per_gather = 0
"""
TABLE = """
CREATE TABLE numbers AS
SELECT n AS a, n * 7919 % 100003 AS b, 'text ' || n AS c, n / 3.0::float8 AS d
FROM generate_series(1, {rows}::bigint) AS n;
ANALYZE numbers
"""


class Cluster:
    def __init__(self, place, rows):
        self.place, self.data = place, f"{place.scratch}/data"
        place.run(f"{BIN}/initdb -D {self.data} -A trust -N --no-instructions --no-locale").must_succeed("initdb")
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as file:
            file.write(place.fill(CONFIGURATION))
        with self.running():
            table = shlex.quote(TABLE.format(rows=rows))
            place.run(f"{BIN}/psql -q -h {{scratch}} -d postgres -c {table}").must_succeed("making the table")

    @contextlib.contextmanager
    def running(self, way=()):
        log_name = f"{self.place.scratch}/server.log"
        with open(log_name, "w", encoding="utf-8") as log:
            server = subprocess.Popen(
                [*way, f"{BIN}/postgres", "-D", self.data], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.place.environment(), cwd=self.place.scratch, **user(PROGRAM_UID),
            )  # fmt: skip
        try:
            while self.place.run(f"{BIN}/pg_isready -q -h {{scratch}}").status != 0:
                if server.poll() is not None:
                    with open(log_name, encoding="utf-8") as log:
                        raise Wrong(f"the server ended: {log.read()}")
            yield
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
