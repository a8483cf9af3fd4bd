package healthmesh

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// site is a web server for probes.
func site(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprint(w, "all is well at "+r.Host)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(patience):
			}
		case "/far":
			fmt.Fprint(w, strings.Repeat(".", maxBody)+"well")
		default:
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func port(t *testing.T, addr net.Addr) int {
	t.Helper()
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	t.Fatalf("%v", addr)
	return 0
}

func TestHTTPProbes(t *testing.T) {
	s := site(t)
	s.Start()
	for _, c := range []struct {
		check Check
		ok    bool
		why   string
	}{
		{Check{Path: "/ok"}, true, "status 200"},
		{Check{Path: "/ok", Body: "well at www.geo.example.com"}, true, "status 200"},
		{Check{Path: "/ok", Host: "other.example", Body: "well at other.example"}, true, "status 200"},
		{Check{Path: "/ok", Body: "ill"}, false, "body does not match"},
		{Check{Path: "/far", Body: "well"}, false, "body does not match"},
		{Check{Path: "/bad"}, false, "status 503"},
		{Check{Path: "/bad", Status: []int{503}}, true, "status 503"},
		{Check{Path: "/moved"}, true, "status 302"},
		{Check{Path: "/moved", Status: []int{200}}, false, "status 302"},
		{Check{Path: "/slow", Timeout: 50 * time.Millisecond}, false, "timeout"},
		{Check{Path: "/ok", Type: checkHTTPS}, false, "tls: handshake failed"},
	} {
		c.check.Port = port(t, s.Listener.Addr())
		if c.check.Type == "" {
			c.check.Type = checkHTTP
		}
		if c.check.Timeout == 0 {
			c.check.Timeout = patience
		}
		ok, why := probeOnce(t, c.check)
		if ok != c.ok || why != c.why {
			t.Errorf("%+v: %v %q, want %v %q", c.check, ok, why, c.ok, c.why)
		}
	}
}

// probeOnce checks 127.0.0.1 as an agent does.
func probeOnce(t *testing.T, c Check) (bool, string) {
	t.Helper()
	c = c.Validate("check", func(key string, value any, accepted string) { t.Fatalf("%s: %v: %s", key, value, accepted) })
	o := newProbe(Target{Service: "www.geo.example.com.", Endpoint: "127.0.0.1"}, c).run(context.Background())
	return o.state == Up, o.why.String()
}

func TestHTTPSProbes(t *testing.T) {
	s := site(t)
	s.StartTLS()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	check := Check{Type: checkHTTPS, Port: port(t, s.Listener.Addr()), Path: "/ok", Host: "example.com", Timeout: patience}
	if ok, why := probeOnce(t, check); ok || why != "tls: certificate's issuer is not trusted" {
		t.Errorf("a certificate of its own: %v %s", ok, why)
	}
	check = check.withDefaults() // httptest's certificate is for example.com
	p := newProbe(Target{Service: "www.geo.example.com.", Endpoint: "127.0.0.1"}, check)
	transport := p.web.Transport.(*http.Transport)
	transport.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if o := p.run(context.Background()); o.state != Up {
		t.Errorf("a trusted certificate: %v", o.why)
	}
	transport.TLSClientConfig.ServerName = "other.example"
	if o := p.run(context.Background()); o.state != Down || o.why.String() != "tls: certificate is for another name" {
		t.Errorf("another name: %v %v", o.state, o.why)
	}
}

func TestTCPProbes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	check := Check{Type: checkTCP, Port: port(t, ln.Addr()), Timeout: patience}
	if ok, why := probeOnce(t, check); !ok || why != "connected" {
		t.Errorf("%v %s", ok, why)
	}
	ln.Close()
	if ok, why := probeOnce(t, check); ok || why != "connection refused" {
		t.Errorf("nobody listens: %v %s", ok, why)
	}
}

func TestDNSProbes(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name != "geo.example.com." || q.Question[0].Qtype != dns.TypeSOA {
			m.Rcode = dns.RcodeRefused
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	check := Check{Type: checkDNS, Port: port(t, conn.LocalAddr()), Host: "geo.example.com", Timeout: patience}
	if ok, why := probeOnce(t, check); !ok || why != "dns: NOERROR" {
		t.Errorf("%v %s", ok, why)
	}
	check.Host = "" // the service's
	if ok, why := probeOnce(t, check); ok || why != "dns: REFUSED" {
		t.Errorf("%v %s", ok, why)
	}
}

// What is wrong with a part of the configuration is reported with its key; what is left out has its default.
func TestValidate(t *testing.T) {
	var got []string
	report := func(key string, value any, accepted string) { got = append(got, fmt.Sprintf("%s=%v", key, value)) }
	for _, c := range []struct {
		name     string
		validate func()
		want     string
	}{
		{"no check", func() { Check{}.Validate("c", report) }, ""},
		{"a good check", func() { Check{Type: "http"}.Validate("c", report) }, ""},
		{"no type", func() { Check{Port: 80}.Validate("c", report) }, "c.type="},
		{"tcp without port", func() { Check{Type: "tcp"}.Validate("c", report) }, "c.port=0"},
		{"path for tcp", func() { Check{Type: "tcp", Port: 80, Path: "/", Body: "x", Status: []int{200}}.Validate("c", report) }, "c.path=/ c.status=[200] c.body=x"},
		{"bounds", func() {
			Check{Type: "http", Port: 70000, Path: "x", Host: "a b", Status: []int{99}, Interval: time.Millisecond, Timeout: time.Hour, Fall: 11, Rise: -1}.Validate("c", report)
		}, "c.port=70000 c.path=x c.status[0]=99 c.host=a b c.interval=1ms c.timeout=1h0m0s c.fall=11 c.rise=-1"},
		{"good checks of all kinds", func() {
			for _, c := range []Check{
				{Type: "https", Verify: "off", Method: "POST", Headers: []Header{{"Authorization", "Bearer x"}}, BodyRegexp: "(?i)ok"}, {Type: "http2", TLS: "off"},
				{Type: "tls", Port: 636, Host: "ldap.example"}, {Type: "dns"}, {Type: "grpc", Port: 50051, Service: "a.B", TLS: "off"}, {Type: "icmp"},
				{Type: "exec", Command: []string{"/bin/true", ""}},
			} {
				c.Validate("c", report)
			}
		}, ""},
		{"an unknown kind", func() { Check{Type: "ftp", Port: 21}.Validate("c", report) }, "c.type=ftp"},
		{"what does not fit echoes", func() {
			Check{Type: "icmp", Port: 1, TLS: "on", Verify: "off", Method: "GET", Host: "x", Headers: []Header{{"a", "b"}}, BodyRegexp: "x", Service: "s", Command: []string{"/x"}}.Validate("c", report)
		}, "c.port=1 c.tls=on c.verify=off c.method=GET c.host=x c.headers=[{a b}] c.body_regexp=x c.service=s c.command=[/x]"},
		{"neither on nor off", func() { Check{Type: "grpc", Port: 1, TLS: "yes", Verify: "no"}.Validate("c", report) }, "c.tls=yes c.verify=no"},
		{"nothing to verify", func() { Check{Type: "http2", TLS: "off", Verify: "off"}.Validate("c", report) }, "c.verify=off"},
		{"bounds of the web", func() {
			Check{Type: "http", Method: "BREW", Headers: []Header{{"Host", "x"}, {"a b", "x"}, {"a", "b\r\nc"}}, BodyRegexp: "(", HoldDown: time.Hour}.Validate("c", report)
		}, "c.method=BREW c.headers[0].name=Host c.headers[1].name=a b c.headers[2].value=b\r\nc c.body_regexp=( c.hold_down=1h0m0s"},
		{"too many headers", func() { Check{Type: "http", Headers: slices.Repeat([]Header{{"a", "b"}}, 17)}.Validate("c", report) }, "c.headers=17"},
		{"the body of HEAD", func() { Check{Type: "http", Method: "HEAD", Body: "x"}.Validate("c", report) }, "c.method=HEAD"},
		{"no program", func() { Check{Type: "exec"}.Validate("c", report) }, "c.command="},
		{"a program of the path", func() { Check{Type: "exec", Command: []string{"true", "x\x00"}}.Validate("c", report) }, "c.command=true x\x00 c.command[1]=x\x00"},
		{"ports are stated", func() { Check{Type: "grpc"}.Validate("c", report); Check{Type: "tls"}.Validate("d", report) }, "c.port=0 d.port=0"},
		{"no load", func() { LoadConfig{}.Validate("l", report) }, ""},
		{"a good load", func() { LoadConfig{URL: "http://127.0.0.1/", JSON: "a"}.Validate("l", report) }, ""},
		{"load without a number", func() { LoadConfig{URL: "http://127.0.0.1/"}.Validate("l", report) }, "l.type="},
		{"load from nowhere, in two ways", func() { LoadConfig{URL: "ftp://x", JSON: "a", Metric: "b"}.Validate("l", report) }, "l.metric=b l.url=ftp://x"},
		{"a good mesh", func() { Config{Listen: "127.0.0.1:7946"}.Validate("m", "", report) }, ""},
		{"a key still to be made, on loopback", func() { Config{Listen: "127.0.0.1:7946", KeyFile: "gone"}.Validate("m", t.TempDir(), report) }, ""},
		{"a key still to be made, elsewhere", func() { Config{Listen: "192.0.2.1:7946", KeyFile: "/gone"}.Validate("m", "", report) }, "m.key_file=/gone"},
		{"no key elsewhere", func() { Config{Listen: "192.0.2.1:7946"}.Validate("m", "", report) }, "m.key_file="},
		{"mesh", func() {
			Config{Listen: "x", Advertise: "y", Join: []string{"a:1", "b", ":1"}, Label: strings.Repeat("l", 65), Beat: time.Millisecond, Lease: 2 * time.Millisecond}.Validate("m", "", report)
		}, "m.listen=x m.advertise=y m.join[1]=b m.join[2]=:1 m.label=" + strings.Repeat("l", 65) + " m.beat=1ms m.lease=2ms"},
		{"others reach no node at all addresses", func() {
			Config{Listen: "127.0.0.1:7946", Advertise: ":7946"}.Validate("m", "", report)
			Config{Listen: "127.0.0.1:7946", Advertise: "0.0.0.0:7946"}.Validate("n", "", report)
		}, "m.advertise=:7946 n.advertise=0.0.0.0:7946"},
		{"all of IPv6, in full", func() { Config{Listen: "[0:0::0]:7946", KeyFile: "/gone"}.Validate("m", "", report) }, "m.advertise= m.key_file=/gone"},
		{"all of IPv6 needs an address for others", func() { Config{Listen: "[::]:7946", KeyFile: "/gone"}.Validate("m", "", report) }, "m.advertise= m.key_file=/gone"},
	} {
		got = nil
		if c.validate(); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, strings.Join(got, " "), c.want)
		}
	}
}

// The defaults of a check.
func TestDefaults(t *testing.T) {
	for kind, port := range map[string]int{checkHTTP: 80, checkHTTPS: 443, checkHTTP2: 443, checkDNS: 53, checkICMP: 0, checkExec: 0} {
		c := Check{Type: kind}.withDefaults()
		if c.Port != port || c.Interval != time.Second || c.Timeout != 500*time.Millisecond || c.Fall != 2 || c.Rise != 2 || c.HoldDown != 5*time.Second {
			t.Errorf("%s: %+v", kind, c)
		}
	}
	if c := (Check{Type: checkHTTP2, TLS: "off"}).withDefaults(); c.Port != 80 {
		t.Errorf("http2 without TLS: port %d", c.Port)
	}
}

// A check that is given up ends at once, whatever time it has: an agent that ends waits for its checks.
func TestChecksAreGivenUp(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0") // hears, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for typ, k := range kinds {
		c := Check{Type: typ, Timeout: maxTimeout, Command: []string{"/bin/sleep", "60"}}
		if c.Port = tcp.Addr().(*net.TCPAddr).Port; typ == checkDNS {
			c.Port = udp.LocalAddr().(*net.UDPAddr).Port
		}
		if typ == checkTCP || typ == checkICMP {
			continue // the machine answers them
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		began := time.Now()
		_, _ = k.probe(newProbe(Target{Endpoint: "127.0.0.1", Service: "www."}, c.withDefaults()), ctx)
		if took := time.Since(began); took > patience {
			t.Errorf("%s took %v", typ, took)
		}
	}
}
