# SPDX-License-Identifier: MIT
# Closures by libffi: each is a piece of generated code that C calls.
#   python3 closures.py qsort LENGTH       sorts by one of them
#   python3 closures.py CLOSURES ROUNDS    makes so many, which all live, and calls each, and that so often
import ctypes
import sys

libc = ctypes.CDLL(None)
Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
Function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def where(closure):
    """The mapping that its code is in, as /proc/self/maps has it."""
    address = ctypes.cast(closure, ctypes.c_void_p).value
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
            if start <= address < end:
                return " ".join(line.split()[1:2] + line.split()[5:])
    return "nowhere"


if sys.argv[1] == "qsort":
    count = int(sys.argv[2])
    numbers = (ctypes.c_int * count)(*(k * 7919 % 100003 for k in range(count)))
    compare = Compare(lambda a, b: a[0] - b[0])
    libc.qsort(numbers, count, ctypes.sizeof(ctypes.c_int), compare)
    print("result", sum(k * number for k, number in enumerate(numbers)))
    print("jit: 1 closure, in", where(compare))
else:
    count = int(sys.argv[1])
    total = 0
    for _ in range(int(sys.argv[2])):
        closures = [Function(lambda x, k=k: x + k) for k in range(count)]
        total += sum(closure(1) for closure in closures)
    print("result", total)
    print("jit:", len(closures), "closures, the last in", where(closures[-1]))
