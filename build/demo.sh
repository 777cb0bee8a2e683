#!/bin/bash
# Show what `run` is for, with its own log. Called by `make demo`.
set -u
run=$1

show() {
    printf '\n$ %s\n' "$*"
}

cat <<'END'
Two services start in the background, and the shell that started them ends. The first service leaves an orphan behind,
which run adopts. After two seconds the second service ends with code 3: run stops the other one and the orphan with
TERM, reaps them, and ends with the worst exit code: 143, since a process killed by TERM (15) counts as 128 + 15.
END

services='{ (sleep 50 &); exec sleep 60; } & { sleep 2; exit 3; } &'
show "$run -ds TERM sh -ec '$services'"
"$run" -ds TERM sh -ec "$services"
echo "exit code: $?"
