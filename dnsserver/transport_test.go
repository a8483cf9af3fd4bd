package dnsserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve serves with options until the test ends.
func serve(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// writeCertificate makes a certificate of its own for a name, and returns who trusts it.
func writeCertificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	compile := func() *Settings {
		c := testConfig()
		c.TLS = TLSConfig{Certificate: "cert.pem", Key: "key.pem"}
		return c.Compile("dns", dir, nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	}
	first := writeCertificate(t, dir, "first.example")
	scene := build(t, nil, nil)
	scene.Settings = compile()
	o := serverOf(scene)
	o.ListenTLS = []string{"127.0.0.1:0"}
	s := serve(t, o)

	// Queries are answered over one connection, padded where that is asked for.
	conf := &tls.Config{RootCAs: first, ServerName: "first.example", NextProtos: []string{"dot"}, MinVersion: tls.VersionTLS12}
	conn, err := tls.Dial("tcp", s.Addrs()[0], conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p != "dot" {
		t.Errorf("ALPN %q, want dot", p)
	}
	for _, name := range []string{"mail", "a.moved", "big"} {
		q := question(name)
		q.SetEdns0(maxUDP, false)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_PADDING{}, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		if _, err := conn.Write(framed(t, q)); err != nil {
			t.Fatal(err)
		}
		m := readFramed(t, conn)
		opt := edns(m.IsEdns0())
		if m.Id != q.Id || m.Truncated || !strings.Contains(opt, " keepalive 100 padding ") {
			t.Errorf("%s: %s", name, brief(m))
		}
	}
	// What is no DNS has no reply.
	odd, err := tls.Dial("tcp", s.Addrs()[0], &tls.Config{RootCAs: first, ServerName: "first.example", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err == nil {
		odd.Close()
		t.Error("a client of HTTP is let in")
	}
	plain := dial(t, s)
	if _, err := plain.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(plain); len(b) > 7 { // an alert
		t.Errorf("a reply in the clear: %x", b)
	}
	if n := gather(t, s)["nearcast_dns_dropped_total"]["no_tls_handshake"]; n != 2 {
		t.Errorf("%v handshakes failed, want 2", n)
	}
	if n := gather(t, s)["nearcast_dns_query_types_total"]["NOERROR tls A"]; n == 0 {
		t.Errorf("queries over TLS are not counted as such: %v", gather(t, s)["nearcast_dns_query_types_total"])
	}

	// A new certificate is taken up; the connection that is open goes on.
	second := writeCertificate(t, dir, "second.example")
	s.Apply(compile(), scene.Snapshot.Set, scene.Snapshot.Set)
	c := dns.Client{Net: "tcp-tls", Timeout: patience, TLSConfig: &tls.Config{RootCAs: second, ServerName: "second.example", MinVersion: tls.VersionTLS12}}
	if _, _, err := c.Exchange(question("mail"), s.Addrs()[0]); err != nil {
		t.Error(err)
	}
	if _, err := conn.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, conn)
}

// proxied is a packet as a balancer hands it on.
func proxied(command byte, source netip.AddrPort, packet []byte) []byte {
	a := source.Addr().AsSlice()
	family := byte(0x10)
	if len(a) == 16 {
		family = 0x20
	}
	tlv := []byte{0x04, 0, 2, 0, 0} // NOOP
	b := append([]byte(proxyMagic), command, family|2)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(a)+4+len(tlv)))
	b = append(append(b, a...), a...)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = append(binary.BigEndian.AppendUint16(b, 53), tlv...)
	return append(b, packet...)
}

func TestProxyHeader(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("203.0.113.7:1234"), netip.MustParseAddrPort("[2001:db8::7]:1234")
	for name, c := range map[string]struct {
		packet []byte
		want   string // source and what is left, "" if refused
	}{
		"IPv4":                   {proxied(0x21, v4, []byte("query")), "203.0.113.7:1234 query"},
		"IPv6":                   {proxied(0x21, v6, []byte("query")), "[2001:db8::7]:1234 query"},
		"IPv4 in IPv6":           {proxied(0x21, netip.MustParseAddrPort("[::ffff:203.0.113.7]:1"), nil), "203.0.113.7:1 "},
		"the balancer's own":     {proxied(0x20, v4, []byte("query")), "invalid AddrPort query"},
		"an unknown command":     {proxied(0x22, v4, nil), ""},
		"version 1":              {[]byte("PROXY TCP4 203.0.113.7 192.0.2.1 1234 53\r\n"), ""},
		"another version":        {proxied(0x31, v4, nil), ""},
		"nothing":                {nil, ""},
		"no header":              {[]byte("a query that is none of a balancer's, long enough"), ""},
		"a header alone":         {proxied(0x21, v4, nil), "203.0.113.7:1234 "},
		"cut short":              {proxied(0x21, v4, nil)[:proxyHead+16], ""},
		"addresses too short":    {append([]byte(proxyMagic), 0x21, 0x12, 0, 4, 1, 2, 3, 4), ""},
		"with a certificate":     {append(append([]byte(proxyMagic), 0x21, 0x12, 0x10, 0x00, 192, 0, 2, 1), make([]byte, maxProxy-4)...), "192.0.2.1:0 "},
		"more than is ever told": {append(append([]byte(proxyMagic), 0x21, 0x12, 0x10, 0x01), make([]byte, maxProxy+1)...), ""},
	} {
		source, n, err := proxySource(c.packet)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%v %s", source, c.packet[n:])
		}
		if got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// What a balancer hands on is answered as if it came from whom the balancer names; without a name it is not answered.
func TestProxy(t *testing.T) {
	scene := buildNear(t)
	c := testConfig()
	c.ProxyFrom = []string{"127.0.0.1"}
	c.TLS = TLSConfig{Certificate: "cert.pem", Key: "key.pem"}
	dir := t.TempDir()
	trust := writeCertificate(t, dir, "near.example")
	scene.Settings = c.Compile("dns", dir, nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	o := serverOf(scene, "127.0.0.1:0")
	o.ListenTLS = []string{"127.0.0.1:0"}
	s := serve(t, o)
	q := question("near")
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{"203.0.113.7:5": "192.0.2.2", "8.8.8.8:5": "192.0.2.1", "[2a01::1]:5": "192.0.2.2"} {
		header := proxied(0x21, netip.MustParseAddrPort(source), nil)
		for _, transport := range []string{"udp", "tcp", "tls"} {
			network, at := transport, 0
			if transport == "tls" {
				network, at = "tcp", 1
			}
			conn, err := net.Dial(network, s.Addrs()[at])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			var m *dns.Msg
			if transport == "udp" {
				if _, err := conn.Write(append(header, b...)); err != nil {
					t.Fatal(err)
				}
				reply := make([]byte, maxUDP)
				n, err := conn.Read(reply)
				if err != nil {
					t.Fatal(err)
				}
				m = parse(t, reply[:n])
			} else {
				if _, err := conn.Write(header); err != nil {
					t.Fatal(err)
				}
				if transport == "tls" { // the header is before TLS
					conn = tls.Client(conn, &tls.Config{RootCAs: trust, ServerName: "near.example", MinVersion: tls.VersionTLS12})
				}
				if _, err := conn.Write(framed(t, q)); err != nil {
					t.Fatal(err)
				}
				m = readFramed(t, conn)
			}
			if got := lastAddress(m); m.Id != q.Id || got != want {
				t.Errorf("%s over %s: %s, want %s", source, transport, got, want)
			}
		}
	}
	udp, err := net.Dial("udp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, packet := range [][]byte{b, proxied(0x21, netip.MustParseAddrPort("203.0.113.7:0"), b)} {
		if _, err := udp.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	conn := dial(t, s)
	if _, err := conn.Write(framed(t, q)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a reply over TCP without a header")
	}
	deadline := time.Now().Add(patience)
	for dropped := gather(t, s)["nearcast_dns_dropped_total"]; dropped["bad_proxy_header"] != 2 || dropped["port_zero"] != 1; dropped = gather(t, s)["nearcast_dns_dropped_total"] {
		if time.Now().After(deadline) {
			t.Fatalf("%v", gather(t, s)["nearcast_dns_dropped_total"])
		}
		time.Sleep(time.Millisecond)
	}
}

// FuzzProxyHeader holds the two readers of a header together, and to what the protocol says of it.
func FuzzProxyHeader(f *testing.F) {
	for _, rest := range []string{
		"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x30\x39\x00\x35rest",
		"\x21\x21\x00\x24" + strings.Repeat("\x20", 36), "\x20\x00\x00\x00", "\x21\x12\x02\x01", "\x22\x11\x00\x00", "\x21\x31\x00\xd8",
	} {
		f.Add([]byte(proxyMagic + rest))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		source, n, err := proxySource(b)
		r := bytes.NewReader(b)
		streamed, streamErr := readProxyHeader(r)
		if (err == nil) != (streamErr == nil) || err == nil && (streamed != source || len(b)-r.Len() != n) {
			t.Fatalf("%v, %d, %v in a datagram; %v, %d, %v in a stream", source, n, err, streamed, len(b)-r.Len(), streamErr)
		}
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, []byte(proxyMagic)) || n > len(b) || n > proxyHead+maxProxy || b[12]>>4 != 2 {
			t.Fatalf("taken: %x", b)
		}
		if local := b[12]&15 == 0; local == source.IsValid() || source.Addr().Is4In6() {
			t.Fatalf("source %v of %x", source, b)
		}
	})
}
