#!/bin/bash
# Show what `run` is for, with its own log. Called by `make demo`.
set -u
run=$1

show() {
    printf '\n$ %s\n' "$*"
}

cat <<'END'
Two services start in the background. A third process leaves an orphan behind, which run adopts and reaps. After two
seconds one of the services ends with code 3: run stops the other one with TERM, waits for it, and ends with the worst
exit code: 143, since TERM (15) counts as 128 + 15.
END

services='sleep 60 & (sleep 2; exit 3) & (sleep 1 &) &'
show "$run -ds TERM sh -ec '$services'"
"$run" -ds TERM sh -ec "$services"
echo "exit code: $?"
