#!/bin/bash
# Show what `run` is for, with its own log. Called by `make demo`.
set -u
run=$1

show() {
    printf '\n$ %s\n' "$*"
}

cat <<'END'
Three services by a file, in order: one that ends with success before the next one starts, one that fails in the middle of
a line and is started again, and one that is stopped when the second has failed for good. run ends with that one's exit code.
END

file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat >"$file" <<'END'
[services.migrate]
command = "echo 'the tables are there'"
oneshot = true

[services.worker]
command = ["sh", "-c", "echo working; sleep 1; printf 'and then'; exit 3"]
depends_on = ["migrate"]
restart = "on-failure:2"

[services.web]
command = "sleep 60"
depends_on = ["migrate"]
stop_signal = "INT"
END
show cat services.toml
cat "$file"
show "$run -nf services.toml"
"$run" -nf "$file"
show "$run -f services.toml"
"$run" -f "$file"
echo "exit code: $?"

cat <<'END'

One command: a shell starts two programs in the background, and ends. The first one leaves an orphan behind, which run
adopts. After two seconds the second one ends with code 3: run stops the other one and the orphan with TERM, reaps them, and
ends with the worst exit code: 143, since a process killed by TERM (15) counts as 128 + 15.
END

services='{ (sleep 50 &); exec sleep 60; } & { sleep 2; exit 3; } &'
show "$run -ds TERM sh -ec '$services'"
"$run" -ds TERM sh -ec "$services"
echo "exit code: $?"
