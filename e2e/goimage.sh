#!/bin/sh
# Makes an image of this host's Go, its module cache, CA certificates, and what is compiled of nearcast by now, for builds where no
# registry can be reached, and prints its name, which may be given: docker build --build-arg GO_IMAGE="$(e2e/goimage.sh)" .
# What is built from it bears its label, so that it can be found and removed.
set -eu
cd "$(dirname "$0")/.."
name=${1:-nearcast-go:local}
go mod download
root=$(go env GOROOT)
modules=$(go env GOMODCACHE)
# As the Dockerfile builds it: the builds of images on slow file systems find most of it done.
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
CGO_ENABLED=0 GOCACHE=$cache go build -trimpath -ldflags="-s -w" -o "$cache/nearcast" ./cmd/nearcast
rm "$cache/nearcast"
# Links are followed: distributions spread Go over several folders. Of /tmp the folder alone.
tar -ch -C / --exclude="${root#/}/test" --exclude="${modules#/}/cache/vcs" --exclude='*_test.go' --exclude=testdata \
	--transform="s,^${cache#/},gocache," \
	etc/ssl/certs/ca-certificates.crt "${root#/}" "${modules#/}" "${cache#/}" --no-recursion tmp |
	docker import \
		-c "ENV PATH=$root/bin GOMODCACHE=$modules GOCACHE=/gocache GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local" \
		-c "LABEL nearcast.go=$name" \
		- "$name" >/dev/null
echo "$name"
