package healthmesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// classify finds the outcome in an error of net, tls, http or exec. What this machine lacks says nothing of the endpoint.
func classify(err error) outcome {
	lack := isOneOf(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, syscall.EPERM, syscall.EACCES, syscall.EAFNOSUPPORT)
	if isA[unable](err) || lack && !isTimeout(err) && !isBarred(err) {
		return outcome{state: Unknown, why: reason{code: reasonUnable}, text: err.Error()}
	}
	return outcome{state: Down, why: failure(err)}
}

// unable is an error of the check itself.
type unable struct{ error }

func (e unable) Unwrap() error { return e.error }

func failure(err error) reason {
	for _, c := range []struct {
		is   bool
		code reasonCode
	}{
		{isA[*net.DNSError](err), reasonResolve},
		{isTimeout(err), reasonTimeout},
		{errors.Is(err, syscall.ECONNREFUSED), reasonRefused},
		{isOneOf(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL) || isBarred(err), reasonUnreachable},
		{isA[x509.HostnameError](err), reasonTLSName},
		{isA[x509.UnknownAuthorityError](err), reasonTLSIssuer},
		{isExpired(err), reasonTLSExpired},
		{isA[*tls.CertificateVerificationError](err) || isA[tls.RecordHeaderError](err) || isA[tls.AlertError](err), reasonTLS},
		{isOneOf(err, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF), reasonReset},
		// crypto/tls has no type for alerts from the other side.
		{strings.Contains(err.Error(), "tls: no application protocol"), reasonNotHTTP2},
		{strings.Contains(err.Error(), "remote error: tls: "), reasonTLS},
		// net/http has no type for these; what is not HTTP is told only in words.
		{strings.Contains(err.Error(), "malformed HTTP"), reasonHTTP},
		{strings.Contains(err.Error(), "GOAWAY"), reasonReset},
		{strings.Contains(err.Error(), "http2: "), reasonNotHTTP2},
		{strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"), reasonTLS},
	} {
		if c.is {
			return reason{code: c.code}
		}
	}
	return reason{code: reasonOther}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isExpired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() || isOneOf(err, context.DeadlineExceeded, os.ErrDeadlineExceeded)
}

// isBarred says whether a firewall or router does not let IPv6 to the address. Linux tells this as a lack of permission (codes 1, 5 and 6 of
// ICMPv6's unreachable), which for IPv4 it does not.
func isBarred(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, syscall.EACCES) {
		return false
	}
	call, ok := errors.AsType[*os.SyscallError](err)
	ip := ipOf(failed.Addr)
	return ok && call.Syscall != "socket" && ip != nil && ip.To4() == nil
}

func isOneOf(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
