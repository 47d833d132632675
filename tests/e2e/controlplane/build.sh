#!/usr/bin/env bash
# How does a machine with Go get the control plane that the tests start? `make controlplane` runs this, once per go.sum.
#
# The programs are the tools of this folder's module: the API server, controller manager, scheduler and kubectl of one
# Kubernetes release, its etcd, kwok, which plays the nodes, and the LeaderWorkerSet manager. The manager's CRDs and
# webhooks and kwok's node stage are taken from the same module versions, so what is applied fits what runs. They land
# together, or not at all, in ${PDA_CACHE:-~/.cache/pd-autoscaler}/controlplane/<the first 12 digits of go.sum's SHA-256>.
#
# To a newer release: `go get -tool` for each changed line, then the same number in every `replace` line of go.mod,
# because Kubernetes publishes its staging modules as v0.N for its own v1.N and asks for v0.0.0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf 'pd-autoscaler: %s\n' "$*" >&2; }
version() { go list -m -f '{{.Version}}' "$1"; }
source_of() { go list -m -f '{{.Dir}}' "$1"; }

digest=$(sha256sum go.sum)
folder=${PDA_CACHE:-$HOME/.cache/pd-autoscaler}/controlplane/${digest:0:12}
if [ -e "$folder" ]; then exit 0; fi
mkdir -p "$(dirname "$folder")"
exec {lock}>"$folder.lock" # whoever comes second waits, and then finds it built
flock "$lock"
if [ -e "$folder" ]; then exit 0; fi

if ! command -v go >/dev/null; then
  python=${PYTHON:-../../../.venv/bin/python}
  if [ ! -x "$python" ]; then
    say "no go on PATH, and no $python to install one with: \`make controlplane\` sees to that"
    exit 1
  fi
  go_home=$(dirname "$folder")/$(sha256sum go.lock | cut -c1-12).go
  if [ ! -x "$go_home/go/bin/go" ]; then
    say "installing Go into $go_home"
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement go.lock --target "$go_home"
  fi
  PATH=$go_home/go/bin:$PATH
fi

say "building the control plane into $folder (once: about 8 minutes on 2 cores, 3 GB of Go's build cache)"
started=$SECONDS
unfinished=$folder.unfinished
trap 'rm -rf "$unfinished"' EXIT
rm -rf "$unfinished"
mkdir "$unfinished" "$unfinished/manifests"

# The API server's clients judge it by the version it tells, and a build outside its own repository has none.
kubernetes=$(version k8s.io/kubernetes) # v1.36.3
minor=${kubernetes#v1.} minor=${minor%%.*}
flags="-s -w -X sigs.k8s.io/lws/pkg/version.GitVersion=$(version sigs.k8s.io/lws)"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
done
CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -ldflags "$flags" -o "$unfinished/" tool
mv "$unfinished/server" "$unfinished/etcd" # a program is called after the last folder of its package
mv "$unfinished/cmd" "$unfinished/lws-manager"

lws=$(source_of sigs.k8s.io/lws)
cp "$lws"/config/crd/bases/*.yaml "$unfinished/manifests/"
"$unfinished/kubectl" kustomize "$lws/config/webhook" >"$unfinished/manifests/webhooks.yaml"
cp "$(source_of sigs.k8s.io/kwok)/kustomize/stage/node/fast/node-initialize.yaml" "$unfinished/manifests/"
chmod -R u+w "$unfinished/manifests" # files of the module cache are read-only

mv "$unfinished" "$folder"
say "built in $((SECONDS - started)) s"
