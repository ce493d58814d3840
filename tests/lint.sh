#!/bin/sh
# SPDX-License-Identifier: MIT
# What is found without running anything: clang-tidy (.clang-tidy says what is left out, and why), gcc's
# analyzer (exceptions stand in the CMakeLists.txt), and shellcheck. Ends with 0 if nothing is.
set -eu
cd "$(dirname "$0")/.."

for tool in clang-tidy gcc shellcheck; do
    command -v "$tool" >/dev/null || {
        echo "lint: $tool is not installed" >&2
        exit 2
    }
done

status=0
sources=$(ls daemon/*.c proto/*.c client/*.c preload/*.c tools/*.c)
tidy=build/lint-tidy
analyzer=build/lint-analyzer

echo "== clang-tidy"
# It wants to know how each file is compiled, and the generated headers.
cmake --preset release -B "$tidy" -DJITBROKER_TESTS=OFF -DJITBROKER_EXAMPLES=OFF >/dev/null
cmake --build "$tidy" --target jitbroker_messages jitbroker_admin_messages -- --quiet
# shellcheck disable=SC2086 # a list of files
printf '%s\n' $sources | xargs -P "$(nproc)" -n 4 clang-tidy -p "$tidy" --quiet || status=1

echo "== gcc -fanalyzer"
cmake --preset release -B "$analyzer" -DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-fanalyzer -DJITBROKER_TESTS=OFF \
    -DJITBROKER_EXAMPLES=OFF >/dev/null
cmake --build "$analyzer" -- --quiet -k 0 || status=1

echo "== shellcheck"
# shellcheck disable=SC2046 # a list of files
shellcheck --severity=warning check demo tools/*.bash $(git ls-files '*.sh') || status=1
exit $status
