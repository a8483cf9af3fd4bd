#!/bin/sh
# Makes an image of this host's Go, its module cache and CA certificates, for builds where no registry can be reached, and
# prints its name, which may be given: docker build --build-arg GO_IMAGE="$(e2e/goimage.sh)" .
# What is built from it bears its label, so that it can be found and removed.
set -eu
cd "$(dirname "$0")/.."
name=${1:-nearcast-go:local}
go mod download
root=$(go env GOROOT)
modules=$(go env GOMODCACHE)
# Links are followed: distributions spread Go over several folders. Of /tmp the folder alone.
tar -ch -C / --exclude="${root#/}/test" --exclude="${modules#/}/cache/vcs" \
	etc/ssl/certs/ca-certificates.crt "${root#/}" "${modules#/}" --no-recursion tmp |
	docker import \
		-c "ENV PATH=$root/bin GOMODCACHE=$modules GOCACHE=/gocache GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local" \
		-c "LABEL nearcast.go=$name" \
		- "$name" >/dev/null
echo "$name"
