#!/usr/bin/env bash
# canary_test.sh REPORT COMMAND...: passes if the command fails and prints REPORT (a regular
# expression). A sanitizer config that lets a planted fault through is worth nothing, and nothing
# else would show it.
set -euo pipefail

report=$1
shift
if output=$("$@" 2>&1); then
  printf 'the planted fault was not noticed: %s\n%s\n' "$*" "$output"
  exit 1
fi
if ! grep -qE -- "$report" <<<"$output"; then
  printf 'failed, but not with "%s": %s\n%s\n' "$report" "$*" "$output"
  exit 1
fi
