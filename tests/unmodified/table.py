#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs with a JIT, as Debian has them, where no memory may become executable: with the broker they run.

    table.py [--build DIRECTORY] [--full RUNS] [--all] [NAME...]

Each program does its work three times: bare; locked down as jitbroker-run locks down but without the broker,
where it must fail; and by jitbroker-run, where it must find what it found bare, and prove that its JIT was
on. Prints a row each, of a Markdown table. With --full the work takes seconds, and a time is the best of so
many runs, bare and under it by turns. NAME is the beginning of a row's name. As root, daemon and programs are
two other users. A program that isn't installed is named; with --all, or JITBROKER_UNMODIFIED=all in the
environment, that is a failure.
"""
import argparse
import contextlib
import os
import re
import shlex
import sys

from cluster import Cluster
from place import HERE, Place, Wrong
from programs import FLIPS, PROGRAMS

JAVAC = "/usr/bin/java -m jdk.compiler/com.sun.tools.javac.Main -d {scratch} {here}/Compute.java"
SKIPPED = 77


def make_lines(place, copies):
    words = "alpha beta gamma delta nobody@nowhere info@place.org x lorem ipsum dolor".split()
    x, lines = 42, []
    for _ in range(10000):
        line = []
        for _ in range(12):
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF
            line.append(words[(x >> 16) % len(words)] + str((x >> 8) % 97))
        lines.append(" ".join(line) + "\n")
    with open(f"{place.scratch}/lines", "w", encoding="utf-8") as file:
        file.writelines(lines * int(copies))


PREPARATIONS = {
    "classes": lambda place, _: place.run(JAVAC).must_succeed("compiling Compute.java"),
    "cluster": Cluster,
    "lines": make_lines,
}


class Table:
    def __init__(self, place, runs):
        self.place, self.runs, self.prepared = place, runs, {}
        print("| program | without | with: proof | flips | bare | under it | ratio | aim |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)

    def prepare(self, program):
        if program.needs and program.needs not in self.prepared:
            size = program.needs_full if self.runs else program.needs_brief
            self.prepared[program.needs] = PREPARATIONS[program.needs](self.place, size)

    def work(self, program, way=()):
        sizes = program.full if self.runs else program.brief
        server = self.prepared["cluster"].running(way) if program.clients else contextlib.nullcontext()
        with server:
            way = () if program.clients else way
            done = self.place.run(program.command, sizes, way, program.environment, program.clients or 1)
        done.counted = self.place.take_log()
        return done

    def found(self, program, run):
        return re.findall(program.result, run.text, re.MULTILINE)

    def row(self, program):
        self.prepare(program)
        bare = self.work(program).must_succeed("bare")
        if not self.found(program, bare):
            raise Wrong(f"bare, it found nothing\n{bare.tail()}")
        without = self.work(program, self.place.without())
        under = self.work(program, self.place.under(program.private_broker, counts=True)).must_succeed("under it")
        if self.found(program, under) != self.found(program, bare):
            raise Wrong(f"it found something else than bare\n{bare.tail()}\nunder it:\n{under.tail()}")
        proof = self.prove(program, under)
        flips = sum(map(int, re.findall(FLIPS, under.counted)))
        times = [(bare.seconds, under.seconds)]
        if self.runs:  # the first of each has filled the caches
            way = self.place.under(program.private_broker)
            times = [(self.work(program).seconds, self.work(program, way).seconds) for _ in range(self.runs)]
        best_bare, best_under = (min(column) for column in zip(*times))
        cells = [
            program.name,
            self.failure(program, without, best_bare),
            proof,
            f"{flips:,}" if flips else "not told",
            f"{best_bare:.2f} s",
            f"{best_under:.2f} s",
            f"{best_under / best_bare:.2f}",
            f"{program.aim:.2f}" if program.aim else "",
        ]
        print("|", " | ".join(cells), "|", flush=True)

    def prove(self, program, under):
        if program.prover:
            way = self.place.under(program.private_broker)
            under = self.place.run(program.prover, way=way).must_succeed("the run that proves")
        text = under.text + under.counted
        matches = re.findall(program.proof, text, re.MULTILINE)
        count = sum(int(match) if re.compile(program.proof).groups else 1 for match in matches)
        if count == 0:
            raise Wrong(f"nothing proves that its JIT was on\n{under.tail()}")
        return program.proved.format(f"{count:,}")

    def failure(self, program, without, seconds):
        if program.silent:
            if without.status != 0 or re.search(program.proof, without.text, re.MULTILINE):
                raise Wrong(f"without the broker it was to interpret: {without.ended()}\n{without.tail()}")
            return f"interprets, {without.seconds / seconds:.1f} × the time" if self.runs else "interprets"
        if without.status == 0:
            raise Wrong(f"without the broker it was to fail\n{without.tail()}")
        line = re.search(program.fault, without.text, re.MULTILINE)
        said = re.sub(r"[|`]", "", line[0].strip())[:100] if line else ""
        return f"{without.ended()}: `{said}`" if said else without.ended()


def is_installed(program):
    wanted = [word for word in shlex.split(program.command) if word.startswith("/usr/")]
    return all(map(os.path.exists, wanted + program.also.split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=f"{HERE}/../../build/release", help="what to try: a build directory")
    parser.add_argument("--full", type=int, default=0, metavar="RUNS", help="measure, by so many runs")
    parser.add_argument("--all", action="store_true", help="what isn't installed is a failure")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these rows")
    options = parser.parse_args()
    wanted = [program for program in PROGRAMS if program.name.startswith(tuple(options.names or [""]))]
    missing = [program for program in wanted if not is_installed(program)]
    bad = 0
    place = Place(options.build)
    try:
        table = Table(place, options.full)
        for program in wanted:
            if program in missing:
                continue
            try:
                table.row(program)
            except Wrong as wrong:
                bad += 1
                print(f"FAILED: {program.name}: {wrong}", file=sys.stderr, flush=True)
    finally:
        place.stop()
    for program in missing:
        print(f"skipped: {program.name}: the package {program.package} is not installed")
    if bad or (missing and (options.all or os.environ.get("JITBROKER_UNMODIFIED") == "all")):
        return 1
    return SKIPPED if len(missing) == len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
