# Sourced by the benchmarks: where they are, and the environment that their Python runs in.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/lib/home.sh
. "$root/tests/lib/home.sh"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

# Prints an interpreter that has matplotlib; nothing if there is none to be had.
plotter() {
  local venv=$root/build/bench/venv
  if ! "$venv/bin/python" -c 'import matplotlib' 2>/dev/null; then
    { /usr/bin/python3 -m venv --clear "$venv" &&
      "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-input \
        -r "$here/requirements.txt"; } >&2 || return 0
  fi
  echo "$venv/bin/python"
}
