# nearcast alone in an image: one static binary, no shell, no root.
# No step needs a shell, so that any image with Go, its modules and CA certificates can build it: --build-arg GO_IMAGE=...
ARG GO_IMAGE=golang:1.26
FROM $GO_IMAGE AS build

# What becomes the state folder in the image: empty, and its user's.
WORKDIR /state

WORKDIR /src
COPY go.mod go.sum ./
RUN ["go", "mod", "download"]
COPY . .
ENV CGO_ENABLED=0
RUN ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", "/nearcast", "./cmd/nearcast"]

FROM scratch
# For checks of https endpoints.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/LICENSE* /
COPY --from=build --chown=65532:65532 /state /var/lib/nearcast
COPY --from=build /nearcast /
USER 65532:65532
VOLUME /var/lib/nearcast
# DNS, the API and metrics, gossip.
EXPOSE 53/udp 53/tcp 8053/tcp 7946/udp 7946/tcp
ENTRYPOINT ["/nearcast"]
