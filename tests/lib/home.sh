# Sourced: gives scripts a HOME they can write to. CI may have none, or one that belongs to another
# user, and Bazel, pip and Ray each fail on that in their own way.
if [[ -z ${HOME:-} || ! -d $HOME || ! -w $HOME ]]; then
  HOME="${TMPDIR:-/tmp}/tutti-home-$(id -u)"
  export HOME
  [[ -d $HOME ]] || mkdir -m 700 "$HOME"
  [[ -O $HOME ]] || { echo "$HOME belongs to someone else" >&2 && exit 1; }
fi
