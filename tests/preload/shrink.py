#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The steps that matter of a run of `model` that fails.

    shrink.py SEED STEPS COMMAND...

COMMAND runs the model, and gets SEED, STEPS and the numbers of steps as further words; what it does with fewer
and fewer of them is tried until none can be left out. Prints its last words, and how to run it again.
"""
import subprocess
import sys

seed, steps, command = sys.argv[1], sys.argv[2], sys.argv[3:]


def run(chosen):
    return subprocess.run([*command, seed, steps, *map(str, chosen)], capture_output=True, text=True, check=False)


kept = list(range(int(steps)))
if run(kept).returncode == 0:
    sys.exit("it does not fail")
size = len(kept) // 2
while size > 0:
    start = 0
    while start < len(kept):
        fewer = kept[:start] + kept[start + size:]
        if fewer and run(fewer).returncode != 0:
            kept = fewer
        else:
            start += size
    size //= 2
print(run(kept).stderr)
print(*command, seed, steps, *kept)
