# SPDX-License-Identifier: MIT
"""A strict reader of the OpenMetrics text format, as far as jitbrokerctl uses it, which is at
the same time what Prometheus' older text format allows. Raises ValueError with the line."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?|\+Inf")
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}


def parse(text):
    """Families by their names: {"type", "unit", "help", "samples": [(suffix, labels, value)]}."""
    if not text.endswith("# EOF\n"):
        raise ValueError("it does not end with # EOF and a newline")
    families, family, seen = {}, None, set()
    lines = text.split("\n")[:-2]
    for line in lines:
        if line.startswith("# "):
            _, keyword, name, rest = line.split(" ", 3)
            if keyword == "TYPE":
                if name in families or rest not in SUFFIXES:
                    raise ValueError(f"twice, or of no type: {line}")
                family = families[name] = {"name": name, "type": rest, "samples": []}
            elif keyword not in ("UNIT", "HELP") or family is None or family["name"] != name:
                raise ValueError(f"metadata out of its place: {line}")
            elif keyword.lower() in family or family["samples"]:
                raise ValueError(f"metadata twice, or late: {line}")
            elif keyword == "UNIT" and not name.endswith("_" + rest):
                raise ValueError(f"the name does not end with the unit: {line}")
            else:
                family[keyword.lower()] = rest
            continue
        match = SAMPLE.fullmatch(line)
        if match is None or family is None or not match[1].startswith(family["name"]):
            raise ValueError(f"no sample of its family: {line!r}")
        suffix = match[1][len(family["name"]) :]
        if suffix not in SUFFIXES[family["type"]]:
            raise ValueError(f"not a suffix of a {family['type']}: {line}")
        if (match[1], match[2]) in seen:
            raise ValueError(f"twice: {line}")
        seen.add((match[1], match[2]))
        labels = dict(re.findall(r'([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        if not all(NUMBER.fullmatch(number) for number in [match[3], labels.get("le", "0")]):
            raise ValueError(f"not how a number is written: {line}")
        value = float(match[3])
        if family["type"] != "gauge" and not value >= 0:
            raise ValueError(f"less than nothing: {line}")
        family["samples"].append((suffix, labels, value))
    for family in families.values():
        check(family)
    return families


def check(family):
    if not family["samples"] or "help" not in family:
        raise ValueError(f"{family['name']}: without samples or help")
    if family["type"] == "histogram":
        check_histogram(family)


def check_histogram(family):
    groups = {}
    for suffix, labels, value in family["samples"]:
        key = tuple(sorted(item for item in labels.items() if item[0] != "le"))
        group = groups.setdefault(key, {"_bucket": [], "_count": [], "_sum": []})
        group[suffix].append((float(labels["le"]), value) if suffix == "_bucket" else value)
    for key, group in groups.items():
        buckets = group["_bucket"]
        bounds = [bound for bound, _ in buckets]
        counts = [count for _, count in buckets]
        if bounds != sorted(set(bounds)) or bounds[-1] != float("inf"):
            raise ValueError(f"{family['name']} {key}: bounds out of order, or without +Inf")
        if counts != sorted(counts) or len(group["_count"]) != 1 or len(group["_sum"]) != 1:
            raise ValueError(f"{family['name']} {key}: buckets that shrink, or no count and sum")
        if group["_count"][0] != counts[-1]:
            raise ValueError(f"{family['name']} {key}: the count is not that of +Inf")
        check_sum(f"{family['name']} {key}", bounds, counts, group["_sum"][0])


def check_sum(what, bounds, counts, total):
    """Each that was counted lies within its bucket, and so does their sum."""
    each = [count - before for before, count in zip([0, *counts], counts)]
    least = sum(bound * count for bound, count in zip([0, *bounds], each))
    most = sum(bound * count for bound, count in zip(bounds, each) if count)
    if not least * 0.999999 <= total <= most * 1.000001:
        raise ValueError(f"{what}: the sum {total} is not from {least} to {most}")


def self_test():
    """What a mistake of each kind leads to, as a checker that finds none shows nothing."""
    good = (
        "# TYPE a counter\n# HELP a Help.\na_total 1\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n"
        '# HELP b_seconds Help.\nb_seconds_bucket{le="1.0"} 1\nb_seconds_bucket{le="+Inf"} 2\n'
        "b_seconds_count 2\nb_seconds_sum 1.5\n# EOF\n"
    )
    parse(good)
    for old, new in [
        ("# EOF\n", ""), ("a_total 1", "a 1"), ("a_total 1", "a_total x"), ("a_total 1", "a_total -1"),
        ("counter", "info"), ("UNIT b_seconds seconds", "UNIT b_seconds bytes"), ('"1.0"} 1', '"1.0"} 3'),
        ("_count 2", "_count 3"), ('b_seconds_bucket{le="+Inf"} 2\n', ""), ("a_total 1\n", ""),
        ("a_total 1", "a_total 1\na_total 1"), ('le="1.0"', 'le="1'), ("# HELP a Help.\n", ""),
        ("a_total 1\n", "a_total 1\n\n"), ("+Inf", "Inf"), ("sum 1.5", "sum 0.5"),
    ]:  # fmt: skip
        assert old in good
        try:
            parse(good.replace(old, new))
        except ValueError:
            continue
        raise AssertionError(f"taken for good: {new!r} for {old!r}")
