#!/bin/bash
# Build and test in a root of another distribution, which debootstrap(8) makes: a clean clone of the last commit, there.
#
#   tests/elsewhere/distribution.sh SUITE FOLDER [COMMAND]
#
# SUITE is one of Debian's or Ubuntu's, such as trixie or noble; its root is kept in FOLDER/SUITE for the next time. Without
# COMMAND it is what stands below: both builds with the distribution's own Python, each with the tests that need no engine.
set -euo pipefail
suite=$1 root=$(realpath -m "$2/$1") source=$(realpath "$(dirname "$0")/../..")
tests='PYTEST_ARGS="--ignore tests/containers"'
commands=${3-"make test LINK=static $tests && make test LINK=staticx $tests"}

if [ ! -e "$root/made" ]; then
    case $suite in
        jammy | noble | questing | resolute)
            mirror=http://archive.ubuntu.com/ubuntu kind=ubuntu script=gutsy components=main,universe ;;
        *) mirror=http://deb.debian.org/debian kind=debian script=sid components=main ;;
    esac
    keys=(--keyring "/usr/share/keyrings/$kind-archive-keyring.gpg")
    if [ ! -e "${keys[1]}" ]; then
        echo "distribution: there is no ${keys[1]}, so that no signature is checked" >&2
        keys=(--no-check-gpg)
    fi
    rm -rf "$root"
    mkdir -p "$root"
    # With a script named, debootstrap need not know the suite.
    debootstrap --variant=minbase --components="$components" --include=ca-certificates,git,make "${keys[@]}" \
        "$suite" "$root" "$mirror" "/usr/share/debootstrap/scripts/$script" >"$root.log" 2>&1 ||
        { tail "$root.log" >&2; exit 1; }
    # A mirror may stand still for longer than a suite that moves says.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/valid"
    touch "$root/made"
fi
# The network is this machine's, and so are those whom it trusts.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
[ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"
rm -rf "$root/src"
git -c safe.directory="$source" clone -q "$source" "$root/src"

# A root, not only a chroot, in which no user namespace can be made. All that was mounted goes with the namespaces.
# shellcheck disable=SC2016
enter='mount --bind "$1" "$1" && cd "$1" && mount -t proc proc proc && mount --rbind /dev dev && mount --rbind /sys sys &&
    mount -t tmpfs tmpfs tmp && pivot_root . mnt && umount -l mnt && cd /src && exec sh -xec "$2"'
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    unshare --mount --pid --fork --kill-child sh -c "$enter" sh "$root" "$commands"
