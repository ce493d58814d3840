#!/bin/sh
# SPDX-License-Identifier: MIT
# Line coverage of daemon/ and proto/ over the whole suite, the daemon's processes included. Those run as other
# users and write their counts at their end: so for the time of the tests everyone may write to build/coverage.
#   tests/coverage.sh            all tests, then the table
#   tests/coverage.sh REGEX      only those tests
set -eu
cd "$(dirname "$0")/.."

command -v gcovr >/dev/null || {
    echo "coverage: gcovr is not installed" >&2
    exit 2
}
umask 0 # what root creates, the daemon adds to
cmake --preset coverage >/dev/null
cmake --build --preset coverage -- --quiet
find build/coverage -name '*.gcda' -delete
find build/coverage -name '*.dir' -type d -exec chmod a+rwx {} +
status=0
ctest --preset coverage ${1:+-R "$1"} || status=$?
find build/coverage -name '*.dir' -type d -exec chmod go-w {} +
# A count that several processes wrote at once may be off, not lost: gcov locks its files.
gcovr --root . --object-directory build/coverage --filter 'daemon/' --filter 'proto/' --exclude 'build/' \
    --exclude-unreachable-branches --print-summary --txt
exit "$status"
