package healthmesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

const (
	maxBody   = 64 << 10 // bytes of an answer that a check looks at
	maxHeader = 64 << 10 // bytes of the header of an answer
)

// A probe runs one check of one endpoint.
type probe struct {
	check Check
	addr  string // endpoint and port
	host  string // Host header, TLS server name, or the name to ask for
	web   *http.Client
}

func newProbe(t Target) *probe {
	p := &probe{check: t.Check, addr: net.JoinHostPort(t.Endpoint, strconv.Itoa(t.Check.Port)), host: t.host()}
	p.web = &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:      true, // a kept connection would not see that nobody listens any more
			DisableCompression:     true, // the body is looked at as it comes
			MaxResponseHeaderBytes: maxHeader,
			TLSClientConfig:        &tls.Config{ServerName: p.host},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p
}

// host is the name by which the endpoint is asked.
func (t Target) host() string {
	if t.Check.Host != "" {
		return t.Check.Host
	}
	name := strings.TrimSuffix(t.Service, ".")
	if rest, ok := strings.CutPrefix(name, "*"); ok {
		name = "wildcard" + rest
	}
	return name
}

// key is equal for checks that differ in nothing, so that these are run once.
func (t Target) key() string { return fmt.Sprintf("%q %q %+v", t.Endpoint, t.host(), t.Check) }

// run checks once.
func (p *probe) run(ctx context.Context) (ok bool, why reason) {
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout)
	defer cancel()
	var err error
	switch p.check.Type {
	case checkTCP:
		ok, why, err = p.tcp(ctx)
	case checkDNS:
		ok, why, err = p.dns(ctx)
	default:
		ok, why, err = p.http(ctx)
	}
	if err != nil {
		return false, classify(err)
	}
	return ok, why
}

func (p *probe) tcp(ctx context.Context) (bool, reason, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return false, reason{}, err
	}
	conn.Close() // nothing was written that could be lost
	return true, reason{code: reasonConnected}, nil
}

func (p *probe) dns(ctx context.Context) (bool, reason, error) {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(p.host), dns.TypeSOA)
	query.RecursionDesired = false // the endpoint is asked for what it knows itself
	client := dns.Client{Net: "udp", Timeout: p.check.Timeout}
	answer, _, err := client.ExchangeContext(ctx, query, p.addr)
	var netErr net.Error
	switch {
	case err != nil && !errors.As(err, &netErr):
		return false, reason{code: reasonDNS}, nil
	case err != nil:
		return false, reason{}, err
	}
	return answer.Rcode == dns.RcodeSuccess, reason{reasonRcode, uint16(answer.Rcode)}, nil
}

func (p *probe) http(ctx context.Context) (bool, reason, error) {
	u, err := url.ParseRequestURI(p.check.Path)
	if err != nil {
		return false, reason{}, err
	}
	u.Scheme, u.Host = p.check.Type, p.addr
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, reason{}, err
	}
	req.Host = p.host
	req.Header.Set("User-Agent", "nearcast-check")
	answer, err := p.web.Do(req)
	if err != nil {
		return false, reason{}, err
	}
	defer answer.Body.Close()
	status := reason{reasonStatus, uint16(answer.StatusCode)}
	if !p.check.accepts(answer.StatusCode) {
		return false, status, nil
	}
	if p.check.Body != "" {
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
		if err != nil {
			return false, reason{}, err
		}
		if !bytes.Contains(body, []byte(p.check.Body)) {
			return false, reason{code: reasonBody}, nil
		}
	}
	return true, status, nil
}

// classify finds the reason in an error of net, tls, or http.
func classify(err error) reason {
	for _, c := range []struct {
		is   bool
		code reasonCode
	}{
		{isA[*net.DNSError](err), reasonResolve},
		{isTimeout(err), reasonTimeout},
		{errors.Is(err, syscall.ECONNREFUSED), reasonRefused},
		{isOneOf(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT), reasonUnreachable},
		{isA[x509.HostnameError](err), reasonTLSName},
		{isA[x509.UnknownAuthorityError](err), reasonTLSIssuer},
		{isExpired(err), reasonTLSExpired},
		{isA[*tls.CertificateVerificationError](err) || isA[tls.RecordHeaderError](err) || isA[tls.AlertError](err), reasonTLS},
		{isOneOf(err, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF), reasonReset},
		// net/http has no type for these; what is not HTTP is told only in words.
		{strings.Contains(err.Error(), "malformed HTTP"), reasonHTTP},
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

func isOneOf(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
