# Functions of build.sh: what the build needs, and how to get it. To be sourced by bash, in the project's folder.
# shellcheck shell=bash

packages=(gcc libc6-dev libpython3-dev python3-venv)

stop() {
    echo "build: $*" >&2
    exit 1
}

# The Python to link statically: the one that PYTHON names, or the system's, if it has what that takes.
static_python() {
    local python=${PYTHON:-/usr/bin/python3}
    command -v "$python" >/dev/null || return 0
    "$python" -I -c '
import os, sys, sysconfig
def there(*parts):
    return os.path.exists(os.path.join(*map(str, parts)))
var = sysconfig.get_config_var
if sys.version_info >= (3, 11) and there(var("LIBPL"), var("LIBRARY")) and there(sysconfig.get_path("include"), "Python.h"):
    print(sys.executable)
'
}

# What of the packages is not there, by what they are needed for, since another source of it will do as well.
missing_packages() {
    command -v gcc >/dev/null || echo gcc
    [ -n "$(gcc -print-file-name=libc.a 2>/dev/null | grep /)" ] || echo libc6-dev
    [ -n "$(static_python)" ] || echo libpython3-dev
    "${PYTHON:-/usr/bin/python3}" -I -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# Install the packages as root on Debian and its kin; elsewhere stop, with the command to type.
install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    if [ -z "${PYTHON:-}" ] && command -v apt-get >/dev/null; then
        [ "$(id -u)" = 0 ] || stop "missing: ${missing[*]}. Type: sudo apt-get install -y ${packages[*]}"
        echo "build: missing: ${missing[*]}: installing with apt-get install ${packages[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    else
        stop "missing: ${missing[*]} (the names of Debian's packages), or PYTHON=, a Python 3.11 or newer with a static library"
    fi
}

# A virtual environment with the pinned tools and this project, made anew when any of them has changed.
make_venv() { # PYTHON FOLDER
    local python=$1 venv=$2 stamp
    stamp=$("$python" -V; "$python" -c 'import sys; print(sys.executable)'; cat build/requirements*.txt)
    if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$venv"
        "$python" -m venv "$venv"
        local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps)
        "${pip[@]}" -r build/requirements-setuptools.txt
        "${pip[@]}" --no-build-isolation --use-pep517 -r build/requirements.txt
        echo "$stamp" >"$venv/stamp"
    fi
    mkdir -p .work
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --force-reinstall --no-index .
}
