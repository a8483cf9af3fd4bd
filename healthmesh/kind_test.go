package healthmesh

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// certificate is one of its own for a name and times.
func certificate(t *testing.T, name string, from, to time.Time) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed
}

// health is a server of grpc.health.v1: what it knows of services, and what else a server may answer.
func health(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Te") != "trailers" || len(body) < grpcPrefix {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	service := ""
	if m := body[grpcPrefix:]; len(m) > 0 {
		_, _, n := protowire.ConsumeTag(m)
		service, _ = protowire.ConsumeString(m[n:])
	}
	w.Header().Set("Content-Type", "application/grpc")
	status := map[string]uint64{"": 1, "good": 1, "bad": 2, "strange": 9}
	switch v, known := status[service]; {
	case service == "text":
		w.Header().Set("Content-Type", "text/plain")
	case service == "cut":
		w.Header().Set("Grpc-Status", "0")
	case !known: // without a message
		w.Header().Set("Grpc-Status", "5")
	default:
		m := protowire.AppendTag(nil, 7, protowire.BytesType) // a field that is not known
		m = protowire.AppendString(m, "x")
		m = protowire.AppendVarint(protowire.AppendTag(m, healthStatus, protowire.VarintType), v)
		w.Header().Set("Trailer", "Grpc-Status")
		w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...))
		w.Header().Set("Grpc-Status", "0")
	}
}

// A farm is servers of all kinds on loopback.
type farm struct{ web, webTLS, h2, h2c, oneTLS, expired, ending, closed, silent int }

func newFarm(t *testing.T, roots *x509.CertPool) (f farm) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(healthCheck, health)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		fmt.Fprintf(w, "%s %s %s of %s for %s", r.Proto, r.Method, r.URL, r.Host, r.Header.Get("X-Who"))
	})
	start := func(protocols func(*http.Protocols), cert *tls.Certificate) int {
		s := httptest.NewUnstartedServer(mux)
		s.Config.Protocols = new(http.Protocols)
		protocols(s.Config.Protocols)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if cert != nil {
			s.EnableHTTP2 = s.Config.Protocols.HTTP2()
			s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return port(t, s.Listener.Addr())
	}
	one := func(p *http.Protocols) { p.SetHTTP1(true) }
	two := func(p *http.Protocols) { p.SetHTTP2(true) }
	both := func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }
	plain := func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	now, day := time.Now(), 24*time.Hour
	good, root := certificate(t, "www.example", now.Add(-day), now.Add(90*day))
	roots.AddCert(root)
	old, root := certificate(t, "www.example", now.Add(-2*day), now.Add(-day))
	roots.AddCert(root)
	ending, root := certificate(t, "www.example", now.Add(-day), now.Add(3*day))
	roots.AddCert(root)
	f.web, f.webTLS, f.h2, f.h2c = start(one, nil), start(both, &good), start(two, &good), start(plain, nil)
	f.oneTLS, f.expired, f.ending = start(one, &good), start(both, &old), start(both, &ending)
	f.closed, f.silent = closedPort(t), silentPort(t)
	return f
}

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return port(t, l.Addr())
}

// silentPort accepts and says nothing.
func silentPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return port(t, l.Addr())
}

// Every kind that speaks over TCP, against servers that are well, ill, and of another kind.
func TestKinds(t *testing.T) {
	roots := x509.NewCertPool()
	f := newFarm(t, roots)
	const short = 300 * time.Millisecond
	for _, c := range []struct {
		check Check
		ok    bool
		why   string
	}{
		{Check{Type: checkHTTP, Port: f.web, Body: "HTTP/1.1 GET / of www.example"}, true, "status 200"},
		{Check{Type: checkHTTP, Port: f.web, Method: "POST", Path: "/a?b=c", BodyRegexp: `^HTTP/1\.1 POST /a\?b=c of`}, true, "status 200"},
		{Check{Type: checkHTTP, Port: f.web, Method: "HEAD"}, true, "status 200"},
		{Check{Type: checkHTTP, Port: f.web, Headers: []Header{{"x-who", "me"}}, Body: "for me"}, true, "status 200"},
		{Check{Type: checkHTTP, Port: f.web, BodyRegexp: "^GET"}, false, "body does not match"},
		{Check{Type: checkHTTP, Port: f.h2c, Timeout: short}, false, "connection reset"},
		{Check{Type: checkHTTPS, Port: f.webTLS, Body: "HTTP/1.1"}, true, "status 200"},
		{Check{Type: checkHTTPS, Port: f.webTLS, Host: "other.example"}, false, "tls: certificate is for another name"},
		{Check{Type: checkHTTPS, Port: f.webTLS, Host: "other.example", Verify: "off"}, true, "status 200"},
		{Check{Type: checkHTTPS, Port: f.expired}, false, "tls: certificate is not valid now"},
		{Check{Type: checkHTTPS, Port: f.expired, Verify: "off"}, true, "status 200"},
		{Check{Type: checkHTTPS, Port: f.web}, false, "tls: handshake failed"},
		{Check{Type: checkHTTPS, Port: f.closed}, false, "connection refused"},
		{Check{Type: checkHTTPS, Port: f.silent, Timeout: short}, false, "timeout"},
		{Check{Type: checkHTTP2, Port: f.h2, Headers: []Header{{"X-Who", "me"}}, Body: "HTTP/2.0 GET / of www.example for me"}, true, "status 200"},
		{Check{Type: checkHTTP2, Port: f.webTLS, Body: "HTTP/2.0"}, true, "status 200"},
		{Check{Type: checkHTTP2, Port: f.h2c, TLS: "off", Body: "HTTP/2.0"}, true, "status 200"},
		{Check{Type: checkHTTP2, Port: f.oneTLS}, false, "not an http/2 answer"},
		{Check{Type: checkHTTP2, Port: f.web, TLS: "off"}, false, "not an http/2 answer"},
		{Check{Type: checkHTTP2, Port: f.h2c}, false, "connection reset"},
		{Check{Type: checkHTTP2, Port: f.expired}, false, "tls: certificate is not valid now"},
		{Check{Type: checkTCP, Port: f.silent}, true, "connected"},
		{Check{Type: checkTCP, Port: f.closed}, false, "connection refused"},
		{Check{Type: checkTLS, Port: f.webTLS}, true, "tls: handshake done"},
		{Check{Type: checkTLS, Port: f.webTLS, Host: "other.example"}, false, "tls: certificate is for another name"},
		{Check{Type: checkTLS, Port: f.expired}, false, "tls: certificate is not valid now"},
		{Check{Type: checkTLS, Port: f.expired, Verify: "off"}, true, "tls: handshake done"},
		{Check{Type: checkTLS, Port: f.web}, false, "tls: handshake failed"},
		{Check{Type: checkTLS, Port: f.silent, Timeout: short}, false, "timeout"},
		{Check{Type: checkGRPC, Port: f.h2}, true, "grpc: SERVING"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "good"}, true, "grpc: SERVING"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "bad"}, false, "grpc: NOT_SERVING"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "gone"}, false, "grpc: failed: NOT_FOUND"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "text"}, false, "not a grpc answer"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "cut"}, false, "not a grpc answer"},
		{Check{Type: checkGRPC, Port: f.h2, Service: "strange"}, false, "not a grpc answer"},
		{Check{Type: checkGRPC, Port: f.h2, Host: "other.example"}, false, "tls: certificate is for another name"},
		{Check{Type: checkGRPC, Port: f.h2c, TLS: "off"}, true, "grpc: SERVING"},
		{Check{Type: checkGRPC, Port: f.h2c, TLS: "off", Service: "bad"}, false, "grpc: NOT_SERVING"},
		{Check{Type: checkGRPC, Port: f.web, TLS: "off"}, false, "not an http/2 answer|connection reset"}, // it closes with what it did not read
		{Check{Type: checkGRPC, Port: f.oneTLS}, false, "not an http/2 answer"},
		{Check{Type: checkGRPC, Port: f.silent, TLS: "off", Timeout: short}, false, "timeout"},
	} {
		if c.check.Timeout == 0 {
			c.check.Timeout = patience
		}
		c.check = c.check.Validate("check", func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
		p := newProbe(Target{Service: "www.example.", Endpoint: "127.0.0.1"}, c.check)
		if p.tlsc != nil {
			p.tlsc.RootCAs = roots
		}
		if o := p.run(context.Background()); (o.state == Up) != c.ok || o.state == Unknown || !slices.Contains(strings.Split(c.why, "|"), o.why.String()) {
			t.Errorf("%+v: %v %q, want %v %q", c.check, o.state, o.why, c.ok, c.why)
		}
	}
}

// Each kind over TLS sees when the certificate ends.
func TestCertificateIsSeen(t *testing.T) {
	f := newFarm(t, x509.NewCertPool())
	for _, kind := range []string{checkHTTPS, checkHTTP2, checkTLS, checkGRPC} {
		check := Check{Type: kind, Port: f.ending, Verify: "off", Timeout: patience}.withDefaults()
		o := newProbe(Target{Service: "www.example.", Endpoint: "127.0.0.1"}, check).run(context.Background())
		if left := time.Until(o.ends); o.state != Up || left < 71*time.Hour || left > 73*time.Hour {
			t.Errorf("%s: %v for %v, ends in %v, want 3 days", kind, o.state, o.why, left)
		}
	}
}

// What this machine lacks says nothing of an endpoint.
func TestClassify(t *testing.T) {
	dial := func(err error) error {
		return &url.Error{Op: "Get", URL: "http://x/", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}}
	}
	to := func(addr, call string, err error) error {
		return &net.OpError{Op: "dial", Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)), Err: os.NewSyscallError(call, err)}
	}
	for _, c := range []struct {
		err   error
		state State
		why   reasonCode
	}{
		{to("[2001:db8::1]:80", "connect", syscall.EACCES), Down, reasonUnreachable}, // a firewall's reject
		{to("[2001:db8::1]:80", "socket", syscall.EACCES), Unknown, reasonUnable},
		{to("192.0.2.1:80", "connect", syscall.EACCES), Unknown, reasonUnable},
		{to("[2001:db8::1]:80", "socket", syscall.EAFNOSUPPORT), Unknown, reasonUnable}, // a kernel without IPv6
		{dial(syscall.EMFILE), Unknown, reasonUnable},
		{dial(syscall.ENFILE), Unknown, reasonUnable},
		{dial(syscall.ENOBUFS), Unknown, reasonUnable},
		{dial(syscall.EPERM), Unknown, reasonUnable},
		{unable{syscall.ENOENT}, Unknown, reasonUnable},
		{dial(syscall.ECONNREFUSED), Down, reasonRefused},
		{dial(syscall.ETIMEDOUT), Down, reasonTimeout},
		{dial(context.DeadlineExceeded), Down, reasonTimeout},
		{dial(syscall.ENETUNREACH), Down, reasonUnreachable},
		{dial(io.EOF), Down, reasonReset},
		{errors.New("something else"), Down, reasonOther},
	} {
		o := classify(c.err)
		if o.state != c.state || o.why.code != c.why || (o.text == "") != (c.state == Down) {
			t.Errorf("%v: %v for %v, %q; want %v for %v", c.err, o.state, o.why, o.text, c.state, reason{code: c.why})
		}
	}
}

// Each reason has a text of its own, from which it is read back.
func TestReasonTexts(t *testing.T) {
	if len(reasonsByText) < 5000 {
		t.Errorf("%d reasons", len(reasonsByText))
	}
	for text, r := range reasonsByText {
		if r.String() != text || parseReason(text) != r || !r.valid() {
			t.Errorf("%+v is %q, and read back %+v", r, text, parseReason(text))
		}
	}
	for code := range reasonCodes {
		if r := (reason{code, details[code].max}); parseReason(r.String()) != r || (reason{code, details[code].max + 1}).valid() {
			t.Errorf("%+v is read back as %+v", r, parseReason(r.String()))
		}
	}
}
