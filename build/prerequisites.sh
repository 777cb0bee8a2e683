# What the build and the tests need from the system, and how to get it. To be sourced by bash, in the project's folder.
# shellcheck shell=bash

say() {
    echo "build: $*" >&2
}

stop() {
    say "$@"
    exit 1
}

# Is there: a command, or (cc:FILE) a file of the C compiler, or (py:MODULES) what a Python must be able to import.
is_there() {
    case $1 in
        cc:*) command -v gcc >/dev/null && [[ $(gcc -print-file-name="${1#cc:}") == */* ]] ;;
        py:*) "${PYTHON:-/usr/bin/python3}" -I -c "import ${1#py:}" ;;
        static) [ -n "$(static_python)" ] ;;
        shared) [ -n "$(shared_python)" ] ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# Have what is needed: pairs of a thing and the Debian package that brings it. As root on Debian and its kin the missing
# packages are installed; elsewhere this stops, with the command to type.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        is_there "$1" || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null || stop "missing: ${missing[*]} (the names of Debian's packages): install them first"
    [ "$(id -u)" = 0 ] || stop "missing: ${missing[*]}. Type: sudo $command"
    say "missing: ${missing[*]}. Installing: $command"
    # A second time: a mirror that is just being updated has not yet all that its list names.
    get_packages "$command" || get_packages "$command"
}

get_packages() { # COMMAND
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $1 -qq -o DPkg::Lock::Timeout=600 >/dev/null
}

# The Python to build with, if it has what the way of linking takes: the one that PYTHON names, or the first that is found.
python_with() { # CONDITION, in Python
    local python
    for python in "${PYTHON:-/usr/bin/python3}" "${PYTHON:-python3}"; do
        "$python" -I -c '
import os, sys, sysconfig
var = sysconfig.get_config_var
def there(folder, name):
    return bool(folder and name and os.path.exists(os.path.join(folder, name)))
header = there(sysconfig.get_path("include"), "Python.h")
if sys.version_info >= (3, 11) and header and ('"$1"'):
    print(sys.executable)
' 2>/dev/null && return
    done
    return 0
}

static_python() { # Debian's has all modules built in; others have most of them as shared libraries
    python_with 'there(var("LIBPL"), var("LIBRARY")) and "select" in sys.builtin_module_names' | head -n 1
}

shared_python() {
    python_with 'there(var("LIBDIR"), var("INSTSONAME")) and var("Py_ENABLE_SHARED")' | head -n 1
}

# A virtual environment with pinned packages, made anew when any of them has changed.
make_venv() { # PYTHON FOLDER REQUIREMENTS...
    local python=$1 venv=$2 stamp file options
    shift 2
    stamp=$("$python" -c 'import sys; print(sys.version, sys.executable)'; cat "$@")
    [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$venv"
    "$python" -m venv "$venv"
    for file; do
        options=(--no-build-isolation --use-pep517)
        # staticx's only wheel is for glibc and x86-64, and its source takes scons: both for the sake of its bootloader, which
        # is not used here. The rest is Python, and good for any machine and C library.
        [[ $file != */requirements-staticx.txt ]] || options=(--only-binary :all: --platform manylinux1_x86_64
            --target "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')")
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
            "${options[@]}" -r "$file"
    done
    echo "$stamp" >"$venv/stamp"
}
