#!/bin/bash
# The tool as a process: exit codes, pipes, and Ctrl-C; without a daemon.
set -u
tutti=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export TUTTI_SOCKET_DIR=$dir
unset NO_COLOR
failed=0

# expect CODE ARGUMENT...: the tool exits with CODE, and within two seconds.
expect() {
  local code=$1
  shift
  timeout 2 "$tutti" "$@" >"$dir/out" 2>"$dir/err"
  local got=$?
  if [ $got -ne "$code" ]; then
    echo "tutti $*: exit code $got, not $code"
    cat "$dir/out" "$dir/err"
    failed=1
  fi
}

# holds FILE TEXT: what the last command wrote there contains TEXT.
holds() {
  if ! grep -qF -- "$2" "$dir/$1"; then
    echo "std$1 lacks '$2':"
    cat "$dir/$1"
    failed=1
  fi
}

expect 0 --help
holds out "status"
expect 0 --version
expect 0 drain --help
holds out "--wait"

expect 2
expect 2 stats
expect 2 group
expect 2 status -o xml
expect 2 status --timeout 0
expect 2 status --timeout soon
expect 2 status --watch never
expect 2 ops --limit many
expect 2 status --socket_dir "/$(printf 'd%.0s' {1..120})"
holds err "too long"

for command in status groups "group dp" sessions ops health drain; do
  # shellcheck disable=SC2086  # "group dp" is two words
  expect 3 $command
  holds err "$dir/admin.sock"
  holds err "--socket_dir"
done
expect 3 version
holds out "tutti"

# Options may stand before or behind the command.
expect 3 --timeout 500ms -o json status
expect 3 status -o json --timeout 500ms

# Certificates, without a daemon.
expect 2 certs
expect 2 certs init "$dir/certs"
expect 2 certs init "$dir/certs" --cluster "not a name"
holds err "'not a name' is no name of a cluster"
expect 1 certs node "$dir/certs" node7
holds err "make an authority with"
expect 0 certs init "$dir/certs" --cluster prod
expect 1 certs init "$dir/certs" --cluster prod
holds err "ca.pem exists"
expect 2 certs node "$dir/certs" ../node7
expect 2 certs node "$dir/certs" node7 --address "a,URI:tutti://cluster/prod/node/x"
expect 0 certs node "$dir/certs" node7 --address 10.0.0.7 --address node7.example --days 30
for key in ca.key node7/node.key; do
  if [ "$(stat -c %a "$dir/certs/$key")" != 600 ]; then
    echo "$key can be read by others"
    failed=1
  fi
done
openssl verify -CAfile "$dir/certs/ca.pem" "$dir/certs/node7/node.pem" >"$dir/out" 2>&1
holds out "node.pem: OK"
openssl x509 -noout -text -in "$dir/certs/node7/node.pem" >"$dir/out" 2>&1
holds out "URI:tutti://cluster/prod/node/node7, IP Address:10.0.0.7, DNS:node7.example"

# Nobody reads: no complaint, and no death by signal.
"$tutti" --help 2>"$dir/err" | true
code=${PIPESTATUS[0]}
if [ "$code" -ne 0 ] || [ -s "$dir/err" ]; then
  echo "a closed pipe: exit code $code"
  cat "$dir/err"
  failed=1
fi

# Watching goes on while there is no daemon, says so, and ends with Ctrl-C.
for arguments in "status --watch 0.1" "--watch=0.1 status" "-w 0.1 status" "--watch status"; do
  # shellcheck disable=SC2086  # words
  timeout --preserve-status -s INT 1 "$tutti" $arguments >"$dir/out" 2>&1
  code=$?
  if [ $code -ne 0 ]; then
    echo "tutti $arguments, then Ctrl-C: exit code $code"
    cat "$dir/out"
    failed=1
  fi
  holds out "no daemon"
done

exit $failed
