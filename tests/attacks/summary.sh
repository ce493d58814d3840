#!/bin/sh
# SPDX-License-Identifier: MIT
# The table of what was tried, and how it was refused, of what the tests noted (harness/attack.h).
#   summary.sh FOLDER
# Status 1 if a row of rows.txt was not tried, or not by all whom it names. Whoever does not run as root
# is one user, so there one of them will do; 77 if nothing has noted anything yet.
set -eu
folder=$1

if [ -z "$(find "$folder" -type f -size +0)" ]; then
    echo "skipped: no test has tried anything yet"
    exit 77
fi
sort -u "$folder"/* | awk -F '|' -v root="$([ "$(id -u)" -eq 0 ] && echo 1 || echo 0)" '
# One more of a list that has it not yet.
function add(list, item) {
    if (index("\n" list "\n", "\n" item "\n") > 0)
        return list
    return list == "" ? item : list "\n" item
}
function joined(list) {
    gsub(/\n/, ", ", list)
    return list
}
function trimmed(text) {
    gsub(/^ +| +$/, "", text)
    return text
}
FILENAME == "-" {
    how[$1, $2] = add(how[$1, $2], $3)
    tests[$1, $2] = add(tests[$1, $2], $4)
    any[$1] = 1
    next
}
/^#/ || /^$/ { next }
NF == 1 {
    print "\n" $0
    next
}
{
    row = trimmed($1)
    whom = trimmed($2)
    known[row] = 1
    rows++
    printf "  %s\n      must %s\n", trimmed($3), trimmed($4)
    if (whom ~ /^later:/) {
        printf "      %-8s not tried: %s\n", "", substr(whom, 8)
        later++
        next
    }
    count = split(whom, names, " ")
    done = 1
    for (i = 1; i <= count; i++) {
        if ((row, names[i]) in how)
            printf "      %-8s %s  [%s]\n", names[i], joined(how[row, names[i]]), joined(tests[row, names[i]])
        else if (root || !(row in any)) {
            printf "      %-8s NOT TRIED\n", names[i]
            done = 0
        }
    }
    if (!done)
        missing++
}
END {
    for (row in any) {
        if (!(row in known)) {
            printf "\nno such row: %s\n", row
            missing++
        }
    }
    printf "\n%d rows: %d tried, %d not tried, %d for later\n", rows, rows - missing - later, missing, later
    exit missing > 0
}' - "$(dirname "$0")/rows.txt"
