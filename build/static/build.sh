#!/bin/bash
# Link the program statically: run/ frozen, CPython's libpython3.x.a, and an entry point of our own.
#
#   [SNAPSHOT=0] build/static/build.sh PYTHON WORK TARGET
#
# PYTHON is that of the build's virtual environment, WORK a folder for what is made on the way. The interpreter is
# initialized once, here, instead of at each start: see snapshot.c. SNAPSHOT=0 leaves that out.
set -euo pipefail

python=$1 work=$2 target=$3
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/build/prerequisites.sh"

snapshot=${SNAPSHOT:-1}
without_snapshot() { # REASON: unless none is wanted
    [ "$snapshot" = 0 ] || say "no snapshot, so that a start takes three times as long: $1"
    snapshot=0
}
case $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') in
    3.11 | 3.12 | 3.13) ;;
    *) without_snapshot "it is known to work with Python 3.11 to 3.13 only" ;;
esac
case $(uname -m) in
    x86_64 | aarch64) ;;
    *) [ "${SNAPSHOT:-}" = 1 ] || without_snapshot "it has been seen to work on x86-64 and arm64 only, and SNAPSHOT=1 tries" ;;
esac
# The mould, too, looks at pages of this size (pages.c). What it makes starts on any.
[ "$(getconf PAGESIZE)" = 4096 ] || without_snapshot "it is made where the kernel has pages of 4096 bytes only"
linker_flags=("-Wl,--gc-sections" "-Wl,--build-id=none")
if [[ $(gcc -Wl,--version 2>/dev/null) == "GNU ld"* ]]; then
    # It warns of dlopen even where that is not the C library's (absent.c).
    linker_flags+=("-Wl,-T,build/static/static.ld" "-Wl,--no-warnings")
else
    without_snapshot "it takes the linker GNU ld"
fi

# The hash seed makes the order of sets the same every time.
export RUN_WORK=$work RUN_LINK=static PYTHONHASHSEED=0 PYTHONWARNINGS=ignore::SyntaxWarning
mkdir -p "$work/pyinstaller" && cd "$work/pyinstaller"  # where no folder named run/ is in the way
"$python" -m PyInstaller --log-level WARN --clean -y --distpath "$work/pyinstaller" --workpath "$work/pyinstaller" \
    "$root/spec/run.spec"

include='' library='' libraries=''
eval "$("$python" - <<'END'
import shlex, sysconfig
var = sysconfig.get_config_var
print("include=" + shlex.quote(sysconfig.get_path("include")))
print("library=" + shlex.quote(f"{var('LIBPL')}/{var('LIBRARY')}"))
print("libraries=" + shlex.quote(var("LIBS") or ""))
END
)"

# Relative names only, so that no folder's name gets into the program.
cd "$root"
flags=(-std=gnu11 -O2 -fno-pie -ffunction-sections -fdata-sections -Wall -Wextra -Werror "-I$include")
flags+=(-Wno-deprecated-declarations) # newer Pythons deprecate functions that older ones have nothing else for
[ "$snapshot" = 0 ] || flags+=(-DRUN_SNAPSHOT)
objects=() compilers=()
compile() { # NAME SOURCE FLAG...: all at once
    gcc "${flags[@]}" "${@:3}" -c "$2" -o "$work/$1.o" &
    compilers+=($!)
    objects+=("$work/$1.o")
}
compile start run/_start.c -DRUN_ENTRY
compile kernel run/_kernel.c
compile spawn run/_spawn.c
compile services run/_services.c
compile main build/static/main.c
[ "$snapshot" != 0 ] || compile frozen "$work/generated/frozen.c"
compile inittab "$work/generated/inittab.c"
compile absent build/static/absent.c -D_GNU_SOURCE -fno-builtin

link() { # TARGET FLAG...
    local compiler
    for compiler in "${compilers[@]}"; do
        wait "$compiler"
    done
    compilers=()
    # shellcheck disable=SC2086
    gcc -static -no-pie -s -o "$1" "${objects[@]}" "$library" $libraries -lm \
        -Wl,--entry=run_entry "${linker_flags[@]}" -Wl,-Map="$1.map" "${@:2}"
}

if [ "$snapshot" = 0 ]; then
    link "$work/run"
else
    for name in snapshot heap pages mould nursery compiler; do
        compile "$name" "build/static/$name.c"
    done
    for function in malloc calloc realloc free pthread_self pthread_key_create; do
        wrapped+=("-Wl,--wrap=$function")
    done
    # At this address, and not lower, no small number looks like a pointer, to prove.py. heap.c has room below it.
    link_mould() { # BYTES: with a heap of that size
        link "$work/mould" "${wrapped[@]}" -Wl,-T,build/static/snapshot.ld -Wl,--defsym=snapshot_heap_size="$1" \
            -Wl,-Ttext-segment=0x30000000
    }
    modules=$work/generated/modules
    link_mould 0
    "$work/mould" plan "$modules" "$work/plan.first" >/dev/null
    size=$("$work/mould" plan "$modules" "$work/plan" "$work/plan.first")
    for attempt in {1..20}; do
        link_mould "$size"
        status=0
        size=$("$work/mould" image "$modules" "$work/plan" "$work/image") || status=$?
        [ "$status" = 3 ] || break
        mv "$work/image" "$work/plan"
    done
    [ "$status" != 3 ] || say "no plan for the snapshot's heap holds, after $attempt attempts"
    [ "$status" = 0 ] || stop "the snapshot cannot be made: SNAPSHOT=0 builds without it"
    objcopy --update-section .snapshot="$work/image" "$work/mould" "$work/run"
    "$python" -E -s -B build/static/prove.py "$work/mould" "$modules" "$work/plan" "$work/image" "$work/run" ||
        stop "SNAPSHOT=0 builds without it"
fi
install -D -m 0755 "$work/run" "$target"
