package healthmesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// The gRPC health checking protocol (grpc.health.v1), as one unary call over HTTP/2 (PROTOCOL-HTTP2 of gRPC). A library for it is
// far larger than what one call of two small messages needs.
const (
	healthCheck    = "/grpc.health.v1.Health/Check"
	healthService  = 1 // HealthCheckRequest.service
	healthStatus   = 1 // HealthCheckResponse.status
	grpcPrefix     = 5 // bytes before a message: whether it is compressed, and its length
	maxGRPCMessage = 4 << 10
)

// servings are the values of HealthCheckResponse.ServingStatus.
var servings = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

const serving = 1

// grpcStatuses are the status codes of gRPC.
var grpcStatuses = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

func (p *probe) grpc(ctx context.Context) (outcome, error) {
	req, err := p.request(ctx, http.MethodPost, healthCheck, bytes.NewReader(healthRequest(p.check.Service)))
	if err != nil {
		return outcome{}, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("grpc-timeout", fmt.Sprintf("%dm", p.check.Timeout.Milliseconds()))
	answer, err := p.web.Do(req)
	if err != nil {
		return outcome{}, err
	}
	defer answer.Body.Close()
	o, err := readHealth(answer)
	return o.with(answer.TLS), err
}

func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = protowire.AppendTag(message, healthService, protowire.BytesType)
		message = protowire.AppendString(message, service)
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(framed, message...)
}

// readHealth judges an answer: the status of the call, then what it says.
func readHealth(answer *http.Response) (outcome, error) {
	if answer.ProtoMajor != 2 {
		return bad(reasonNotHTTP2, 0), nil
	}
	if answer.StatusCode != http.StatusOK {
		return bad(reasonStatus, uint16(answer.StatusCode)), nil
	}
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/grpc") {
		return bad(reasonNotGRPC, 0), nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxGRPCMessage))
	if err != nil {
		return outcome{}, err
	}
	status := answer.Trailer.Get("grpc-status")
	if status == "" {
		status = answer.Header.Get("grpc-status") // of an answer without a message
	}
	code, err := strconv.ParseUint(status, 10, 16)
	if err != nil || int(code) >= len(grpcStatuses) {
		return bad(reasonNotGRPC, 0), nil
	}
	if code != 0 {
		return bad(reasonGRPC, uint16(code)), nil
	}
	n, ok := healthResponse(body)
	switch {
	case !ok:
		return bad(reasonNotGRPC, 0), nil
	case n != serving:
		return bad(reasonServing, n), nil
	}
	return good(reasonServing, serving), nil
}

// healthResponse is the serving status in a framed HealthCheckResponse.
func healthResponse(b []byte) (status uint16, ok bool) {
	if len(b) < grpcPrefix || b[0] != 0 || binary.BigEndian.Uint32(b[1:]) != uint32(len(b)-grpcPrefix) {
		return 0, false
	}
	for b = b[grpcPrefix:]; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, false
		}
		if b = b[n:]; field == healthStatus && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 || v >= uint64(len(servings)) {
				return 0, false
			}
			status, b = uint16(v), b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return 0, false
		}
		b = b[n:]
	}
	return status, true
}
