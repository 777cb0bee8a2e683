#!/bin/bash
# Kubernetes 1.20 and its pause from Debian's source package, with Debian's Go: into FOLDER, 4 to 7 minutes on two processors.
#
#   tests/elsewhere/kubernetes.sh FOLDER
set -euo pipefail
out=$(realpath -m "$1")
[ ! -x "$out/kube-proxy" ] || exit 0
mkdir -p "$out"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# A list of sources for this alone.
mkdir -p "$work/parts" "$work/lists/partial"
sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$work/parts/debian.sources"
options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/parts" -o "Dir::State::Lists=$work/lists"
    -o APT::Sandbox::User=root)
cd "$work"
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" source -qq --download-only kubernetes

source=$work/go/src/k8s.io/kubernetes
mkdir -p "$source"
tar xf kubernetes_*.orig.tar.gz -C "$source" --strip-components=1
cd "$source"
gcc -Os -static -DVERSION=1 -o "$out/pause" build/pause/linux/pause.c

export GO111MODULE=off GOPATH=$work/go GOCACHE=$work/cache CGO_ENABLED=0
version=k8s.io/kubernetes/vendor/k8s.io/component-base/version
build() {
    go build -o "$out/$1" -ldflags "-s -w -X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20" \
        "k8s.io/kubernetes/cmd/$1"
    echo "kubernetes: $1 after $SECONDS s"
}
build kubelet

# What the API server publishes of its API is generated, and no part of the source.
go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(grep -rl '+k8s:openapi-gen=' pkg vendor/k8s.io staging/src/k8s.io --include='*.go' |
    grep -vE '_test.go|zz_gen|/gengo/|sample-|code-generator|kube-openapi/(pkg/generators|cmd|test)' |
    xargs -n1 dirname | sed 's,^staging/src/,vendor/,' | sort -u | sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
"$work/openapi-gen" -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -i "$packages" \
    -p k8s.io/kubernetes/pkg/generated/openapi --output-base "$work/go/src" -r "$work/report" >/dev/null 2>&1
build kube-apiserver
build kube-controller-manager
build kube-scheduler
build kube-proxy
