#!/bin/bash
# Bundle the program with the shared libraries that it needs: run/ frozen, and Python's own libpython3.x.so.
#
#   build/staticx/build.sh PYTHON WORK TARGET
#
# PYTHON is that of the build's virtual environment, WORK a folder for what is made on the way.
set -euo pipefail

python=$1 work=$2 target=$3
root=$(cd "$(dirname "$0")/../.." && pwd)

# The hash seed makes the order of sets the same every time.
export RUN_WORK=$work RUN_LINK=staticx PYTHONHASHSEED=0 PYTHONWARNINGS=ignore::SyntaxWarning
mkdir -p "$work/pyinstaller" "$work/program" && cd "$work/pyinstaller" # where no folder named run/ is in the way
"$python" -m PyInstaller --log-level WARN --clean -y --distpath "$work/pyinstaller" --workpath "$work/pyinstaller" \
    "$root/spec/run.spec"

include='' library='' folders=''
eval "$("$python" - <<'END'
import shlex, sysconfig
var = sysconfig.get_config_var
print("include=" + shlex.quote(sysconfig.get_path("include")))
print("library=" + shlex.quote(var("INSTSONAME")))
print("folders=" + shlex.quote(f"{var('LIBDIR')}:{var('DESTSHARED')}"))
END
)"

# Relative names only, so that no folder's name gets into the program.
cd "$root"
flags=(-std=gnu11 -O2 -ffunction-sections -fdata-sections -Wall -Wextra -Werror -Irun)
compile() { # NAME SOURCE FLAG...
    gcc "${flags[@]}" "${@:3}" -c "$2" -o "$work/$1.o"
    objects+=("$work/$1.o")
}

# The launcher: signals are blocked by its first instructions, where _start.c has them for this machine.
objects=() entry=()
case $(uname -m) in
    x86_64 | aarch64) entry=(-DRUN_ENTRY) ;;
esac
compile start run/_start.c -fno-pie "${entry[@]}"
compile launcher build/staticx/launcher.c -fno-pie
launcher=("${objects[@]}")
compile archive /dev/null -x c

# The program. Newer Pythons deprecate functions that older ones have nothing else for.
objects=()
python_flags=(-fpie "-I$include" -Wno-deprecated-declarations)
compile kernel run/_kernel.c "${python_flags[@]}"
compile spawn run/_spawn.c "${python_flags[@]}"
compile services run/_services.c "${python_flags[@]}"
compile main build/static/main.c "${python_flags[@]}"
compile codecs build/staticx/codecs.c "${python_flags[@]}"
compile takeover build/staticx/takeover.c "${python_flags[@]}"
compile frozen "$work/generated/frozen.c" "${python_flags[@]}"
compile extensions "$work/generated/extensions.c" "${python_flags[@]}"
mapfile -t extensions <"$work/generated/extensions"
IFS=: read -ra search <<<"$folders"
placeholder() { # NAME: the path in handover.h, made long; the launcher puts another in its place
    local path
    path=$(sed -n "s/^#define $1_PLACEHOLDER \"\(.*\)\"/\1/p" build/staticx/handover.h)
    while [ ${#path} -lt 1200 ]; do path+=/; done
    echo "$path"
}
gcc -pie -s -o "$work/program/run" "${objects[@]}" "${search[@]/#/-L}" "-l:$library" "${extensions[@]/#/-l:}" \
    -Wl,--dynamic-linker="$(placeholder LOADER)" -Wl,-rpath,"$(placeholder LIBRARIES)" -Wl,--disable-new-dtags \
    -Wl,--gc-sections -Wl,--build-id=none

interp=$("$python" -c 'import os, sys, staticx.elf as elf; print(elf.get_prog_interp(os.path.realpath(sys.executable)))')
"$python" build/staticx/bundle.py "$work/program/run" "$interp" "$folders" "$work/archive.o"

# The archive comes last in the file, far from the rest, so that a file that is cut off still has the whole launcher.
gcc -static -no-pie -s -o "$work/bundle" "${launcher[@]}" "$work/archive.o" ${entry:+-Wl,--entry=run_entry} \
    -Wl,--section-start=staticx_archive=0x10000000 -Wl,--gc-sections -Wl,--build-id=none \
    -Wl,-Map="$work/bundle.map"
install -D -m 0755 "$work/bundle" "$target"
