#!/usr/bin/env bash
# What the kernels of one instruction set hand to the linker: their table, and nothing that other
# code could be linked with in place of its own. kernels_symbols_test PATH...
set -euo pipefail

found=0
for path in "$@"; do
  case "$path" in
    *.a | *.o) ;;
    *) continue ;;
  esac
  found=$((found + 1))
  # Sanitizers add symbols of their own for every variable.
  symbols=$(nm --defined-only --extern-only --demangle "$path" | grep -E '^[0-9a-f]+ ' |
    cut -d ' ' -f 3- | grep -vE '^__(odr_)?[at]san_')
  if ! grep -qE '^tutti::k(Sse2|Avx2|Avx512)Kernels$' <<<"$symbols" ||
    [[ $(wc -l <<<"$symbols") -ne 1 ]]; then
    printf '%s hands out:\n%s\n' "$path" "$symbols"
    exit 1
  fi
done
if [[ $found -lt 3 ]]; then
  echo "only $found libraries among: $*"
  exit 1
fi
