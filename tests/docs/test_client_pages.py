#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pages of section 3 say what jitclient.h says.

Each function has one page, with the header's very prototype, and is found there by its own name;
each field has its type, each status its number, each constant a description, and no page has
any other. Examples compile, and the one of libjitclient(3) is run by a daemon.
Arguments: the source's folder, that of the built docs, the compiler. $JITBROKER_DAEMON is the daemon,
$CMAKE what installs, and $JITCLIENT_LIBRARY the library, unless that can't be used here.
"""
import collections
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
INCLUDES = "fcntl.h jitclient.h stdint.h stdio.h stdlib.h string.h unistd.h".split()

failures = []


def check(is_so, *words):
    if not is_so:
        failures.append(" ".join(str(word) for word in words))


def same(what, wanted, told):
    """Two lists, in whatever order."""
    check(wanted, what + ": nothing was found to compare")
    for line in wanted:
        check(line in told, f"{what}: not told:", line)
    for line in told:
        check(line in wanted, f"{what}: there is no", line)
    doubles = [line for line, count in collections.Counter(told).items() if count > 1]
    check(not doubles, f"{what}: told more than once:", doubles)


def plain(text):
    """C with one way to put blanks."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" ?([(),*;]) ?", r"\1", text)


# ---- The header -------------------------------------------------------------------------


class Header:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = COMMENT.sub("", file.read())
        self.prototypes = sorted(
            plain(f"{returns} {name}({arguments})")
            for returns, name, arguments in re.findall(
                r"^(?:JITC_API|static inline|(?=typedef int \())\s*([\w ]+?[ *]+)"
                r"(jitc_\w+|\(\*jitc_\w+\))\(([^)]*)\)",
                self.text,
                re.MULTILINE,
            )
        )
        self.functions = sorted(set(re.findall(r"\b(jitc_\w+)\(", self.text)))
        self.structs = {
            name: [plain(field) for field in fields.split(";") if field.strip()]
            for fields, name in re.findall(r"typedef struct \w+ \{([^}]*)\} (\w+);", self.text)
        }
        self.statuses = re.findall(r"^ *(JITC_E_\w+) = (\d+)", self.text, re.MULTILINE)
        elsewhere = {"JITC_API", "JITC_OK"} | {name for name, _ in self.statuses}
        self.constants = sorted(set(re.findall(r"\bJITC_[A-Z_]+\b", self.text)) - elsewhere)


# ---- The pages --------------------------------------------------------------------------


def arguments(line):
    """A macro's: words, and what is between quotes."""
    return [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', line)]


class Page:
    def __init__(self, path):
        self.file = os.path.basename(path)
        with open(path, encoding="utf-8") as file:
            self.lines = [line for line in file.read().splitlines() if not line.startswith('.\\"')]
        self.names = [arguments(line)[1] for line in self.section("NAME") if line.startswith(".Nm ")]

    def section(self, title, macro=".Sh"):
        """The lines below a heading, up to the next that is as high."""
        ends = (".Sh ",) if macro == ".Sh" else (".Sh ", ".Ss ")
        inside, lines = False, []
        for line in self.lines:
            if line.startswith(ends):
                inside = line == f"{macro} {title}"
            elif inside:
                lines.append(line)
        return lines

    def prototypes(self):
        returns, name, given = None, None, []
        for line in self.section("SYNOPSIS"):
            macro, *words = arguments(line)
            if macro == ".Ft":
                returns = " ".join(words)
            elif macro == ".Fo":
                name, given = words[0], []
            elif macro == ".Fa":
                given += words
            elif macro == ".Fn":
                name, given = words[0], words[1:]
            if macro in (".Fn", ".Fc"):
                yield plain(f"{returns} {name}({', '.join(given)})")

    def fields(self, struct):
        """".It Vt "const char *" Ns Va broker Ns Bq 64" is "const char *broker[64]"."""
        for line in self.section(struct, ".Ss"):
            if line.startswith(".It Vt "):
                words = [word for word in arguments(line)[2:] if word not in ("Ns", "Va")]
                if "Bq" in words:
                    words[words.index("Bq") :] = [f"[{words[-1]}]"]
                yield plain(" ".join(words).replace(" [", "["))

    def items(self):
        """What ".It Dv" lines are about."""
        for line in self.lines:
            if line.startswith(".It Dv "):
                yield line

    def examples(self):
        inside, code = False, []
        for line in self.section("EXAMPLES"):
            if line.startswith(".Bd -literal"):
                inside, code = True, []
            elif line == ".Ed":
                inside = False
                yield "\n".join(code).replace("\\e", "\\").replace("\\&", "") + "\n"
            elif inside:
                code.append(line)


# ---- What is compared --------------------------------------------------------------------


def check_functions(header, pages):
    for page in pages:
        own = [re.sub(r".*?\(?\*?(jitc_\w+)\)?\(.*", r"\1", line) for line in page.prototypes()]
        own = [name for name in own if name in header.functions]
        named = [name for name in page.names if name in header.functions]
        same(f"names of {page.file}", own, named)
    same("prototypes", header.prototypes, [line for page in pages for line in page.prototypes()])
    understood = {re.search(r"(jitc_\w+)\(", line).group(1) for line in header.prototypes if "(*" not in line}
    same("the header's functions", header.functions, sorted(understood))


def check_structs(header, pages):
    for struct, fields in header.structs.items():
        same(f"fields of {struct}", fields, [field for page in pages for field in page.fields(struct)])


def check_constants(header, pages, errors):
    items = [line for page in pages for line in page.items()]
    told = {name for line in items for name in re.findall(r"JITC_\w+", line)}
    for name in header.constants:
        check(name in told, "no page describes", name)
    numbered = re.compile(r"^\.It Dv (JITC_E_\w+) Pq (\d+)$")
    same("statuses", header.statuses, [m.groups() for m in map(numbered.match, errors.items()) if m])


def check_strangers(header, pages):
    """No page, of whatever section, is about what isn't there."""
    files = [page.file for page in pages]
    for page in pages:
        text = "\n".join(page.lines[page.lines.index(".Sh NAME") :])
        for name in re.findall(r"\bJITC_\w+", text):
            check(re.search(rf"\b{name}\b", header.text), page.file, "knows", name)
        for name in re.findall(r"\bF[no] (jitc_\w+)|\b(jitc_\w+)(?= 3\b|\()", text):
            name = "".join(name)
            check(name in header.functions or name + ".3" in files, page.file, "knows", name)


def check_links(pages, docs, folder):
    """As they are installed: by each function's name its page is opened."""
    with open(f"{folder}/install.log", "w", encoding="utf-8") as log:
        subprocess.run(
            [os.environ["CMAKE"], "-P", f"{docs}/cmake_install.cmake"],
            env={**os.environ, "DESTDIR": f"{folder}/root"},
            stdout=log,
            check=True,
        )
    found = {
        name: f"{path}/{name}"
        for path, _, names in os.walk(f"{folder}/root")
        for name in names
        if name.endswith(".3")
    }
    for page in pages:
        check(page.file in found, page.file, "is not installed")
        for name in page.names:
            if name + ".3" not in found:
                check(False, f"{name}.3 is not installed")
                continue
            with open(found[name + ".3"], encoding="utf-8") as file:
                text = file.read()
            is_there = text == f".so man3/{page.file}\n" or name + ".3" == page.file
            check(is_there, f"{name}.3 does not lead to {page.file}")
    wanted = {name + ".3" for page in pages for name in page.names} | {page.file for page in pages}
    same("installed names", sorted(wanted), list(found))


def build(command, folder, name, code):
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-c", "-o", f"{folder}/{name}.o"]
    with open(f"{folder}/{name}.c", "w", encoding="utf-8") as file:
        file.write("".join(f"#include <{include}>\n" for include in INCLUDES) + code)
    return subprocess.run(command + strict + [file.name], check=False).returncode == 0


def check_examples(pages, command, folder):
    for page in pages:
        examples = list(page.examples())
        check(examples, page.file, "has no example")
        for number, code in enumerate(examples):
            name = f"{page.file[:-2]}_{number}"
            is_built = build(command, folder, name, code)
            check(is_built, page.file, "has an example that does not compile")


@contextlib.contextmanager
def daemon(folder):
    """One that serves its own user, as jitbroker(7) begins."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": folder}
    environment.pop("JITBROKER_SOCKET", None)
    with subprocess.Popen(
        [os.environ["JITBROKER_DAEMON"], "--user"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr:
                if " serves " in line:
                    break
            yield f"{folder}/jitbroker/socket"
        finally:
            process.terminate()


def check_first_example(page, command, folder):
    library = os.environ.get("JITCLIENT_LIBRARY")
    if platform.machine() != "x86_64" or library is None:
        print("skipped: to run the example, which has x86 code, and locks down what a sanitizer needs")
        return
    with open(f"{folder}/example.c", "w", encoding="utf-8") as file:
        file.write(next(page.examples()))
    link = ["-o", f"{folder}/example", library, f"-Wl,-rpath,{os.path.dirname(library)}"]
    subprocess.run(command + [file.name] + link, check=True)
    with daemon(folder) as path:
        run = subprocess.run(
            [f"{folder}/example"],
            env={**os.environ, "JITBROKER_SOCKET": path},
            capture_output=True,
            text=True,
            check=False,
        )
    check(run.stdout == "42\n" and run.returncode == 0, "the example of libjitclient(3) says:", run)


def main():
    source, docs, *command = sys.argv[1:]
    header = Header(f"{source}/client/jitclient.h")
    files = sorted(os.listdir(f"{source}/docs"))
    everything = [Page(f"{source}/docs/{file}") for file in files if re.search(r"\.[1-9]$", file)]
    pages = [page for page in everything if page.file.endswith(".3")]
    by_name = {page.file: page for page in pages}
    command += ["-std=gnu17", f"-I{source}/client"]
    with tempfile.TemporaryDirectory(prefix="jitbroker-test-") as folder:
        check_functions(header, pages)
        check_structs(header, pages)
        check_constants(header, pages, by_name["jitc_strerror.3"])
        check_strangers(header, everything)
        check_links(pages, docs, folder)
        check_examples(pages, command, folder)
        check_first_example(by_name["libjitclient.3"], command, folder)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
