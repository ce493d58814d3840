#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what a soak (soak.c) has noted, and ends with 1 if any of it has grown.

    soak_plot.py CSV SVG

Flat is: the straight line that fits best rises, from the first to the last note, by no more than a tenth of
the mean, or by less than what it can be told from the scatter of the notes (three times its standard error).
The first tenth is left out, as it fills what is empty at first.
"""
import csv
import math
import sys

SERIES = (  # column, title, divisor, unit, a rise that is no rise
    ("daemon_anon", "daemon: memory of its own", 1 << 20, "MiB", 0.10),
    ("daemon_fds", "daemon: descriptors", 1, "", 0.02),
    ("supervisor_anon", "supervisor: memory of its own", 1 << 20, "MiB", 0.05),
    ("supervisor_fds", "supervisor: descriptors", 1, "", 0.02),
    ("shared_bytes", "shared memory", 1 << 20, "MiB", 0.10),
    ("clients_anon", "clients: memory of their own", 1 << 20, "MiB", 0.10),
    ("p50_us", "operation, p50", 1, "µs", 0.10),
    ("p99_us", "operation, p99", 1, "µs", 0.10),
    ("longest_wait_ms", "longest wait for a new daemon", 1, "ms", 0.10),
)
WIDTH, HEIGHT, LEFT, GAP = 720, 90, 60, 34


def fit(xs, ys):
    """Rise over the whole, its standard error, mean."""
    n = len(xs)
    mx, my = sum(xs) / n, sum(ys) / n
    sxx = sum((x - mx) ** 2 for x in xs)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sxx
    rest = sum((y - my - slope * (x - mx)) ** 2 for x, y in zip(xs, ys))
    error = math.sqrt(rest / max(n - 2, 1) / sxx)
    length = xs[-1] - xs[0]
    return slope * length, error * length, my


def panel(top, title, unit, xs, ys, verdict):
    high = max(ys) * 1.15 or 1
    points = " ".join(
        f"{LEFT + x / xs[-1] * (WIDTH - LEFT - 10):.1f},{top + HEIGHT * (1 - y / high):.1f}" for x, y in zip(xs, ys)
    )
    return (
        f'<text x="{LEFT}" y="{top - 6}">{title}: {verdict}</text>'
        f'<path d="M{LEFT},{top} v{HEIGHT} h{WIDTH - LEFT - 10}" class="axis"/>'
        f'<text x="{LEFT - 4}" y="{top + 8}" class="scale">{high:.3g} {unit}</text>'
        f'<text x="{LEFT - 4}" y="{top + HEIGHT}" class="scale">0</text>'
        f'<polyline points="{points}"/>\n'
    )


def main(source, target):
    with open(source, newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    if len(rows) < 10:
        sys.exit(f"{source}: {len(rows)} notes are too few to tell anything: 10 at least, one each ten seconds")
    late = rows[len(rows) // 10 :]
    xs = [row["seconds"] for row in rows]
    body, status, top = "", 0, 50
    for column, title, divisor, unit, tolerance in SERIES:
        rise, error, mean = fit([row["seconds"] for row in late], [row[column] / divisor for row in late])
        is_flat = rise <= tolerance * mean or rise <= 3 * error
        verdict = f"mean {mean:.4g} {unit}, rise {rise:+.3g} ± {error:.2g}, {'flat' if is_flat else 'GROWS'}"
        print(f"{title}: {verdict}")
        status |= not is_flat
        body += panel(top, title, unit, xs, [row[column] / divisor for row in rows], verdict)
        top += HEIGHT + GAP
    last = rows[-1]
    head = (
        f'<text x="{LEFT}" y="22" class="head">{last["seconds"] / 60:.0f} minutes, {last["operations"] / 1e6:.1f} million '
        f'operations, {last["ends"]:.0f} ends of the daemon (kill, stop and upgrade in turn)</text>\n'
    )
    with open(target, "w") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" font-family="sans-serif">\n'
            "<style>text{font-size:11px}.head{font-size:13px;font-weight:bold}.scale{text-anchor:end;font-size:9px}"
            ".axis{fill:none;stroke:#888}polyline{fill:none;stroke:#06c;stroke-width:1.2}</style>\n"
            f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>\n{head}{body}</svg>\n'
        )
    print(f"{last['ends']:.0f} ends of the daemon, {last['operations']:.0f} operations, {target}")
    return status


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
