#!/bin/bash
# quadlet, the generator of units that comes with podman 4.4: that of Debian 13 into FOLDER, where this podman has none.
#
#   tests/elsewhere/quadlet.sh FOLDER
set -euo pipefail
out=$(realpath -m "$1")
for known in /usr/libexec/podman/quadlet /usr/lib/podman/quadlet "$out/quadlet"; do
    [ ! -x "$known" ] || exit 0
done
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A list of sources for this alone: the first one of this machine, of the next release. Nothing is installed.
mkdir -p "$work/parts" "$work/lists/partial"
sed -e '/^$/,$d' -e 's/^Suites: .*/Suites: trixie/' /etc/apt/sources.list.d/debian.sources >"$work/parts/next.sources"
options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/parts" -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
cd "$work"
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" download -qq podman/trixie
dpkg -x podman_*.deb unpacked
cp unpacked/usr/libexec/podman/quadlet "$out/quadlet"
