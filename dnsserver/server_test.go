package dnsserver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/nearcast/nearcast/healthmesh"
)

// tests wait for so long for what should come at once, on a machine that does much else.
const patience = 20 * time.Second

// start serves the tests' zones on the addresses until the test ends, or stop is called.
func start(t testing.TB, listen ...string) (s *Server, stop func()) {
	t.Helper()
	s, err := Listen(serverOf(build(t, nil, nil), listen...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func question(name string) *dns.Msg {
	return new(dns.Msg).SetQuestion(name+".geo.example.com.", dns.TypeA)
}

func TestServesBothFamiliesAndTransports(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, stop := start(t, "127.0.0.1:0", "[::1]:0")
	defer stop()
	for _, addr := range s.Addrs() {
		for _, transport := range []string{"udp", "tcp"} {
			c := dns.Client{Net: transport, Timeout: patience}
			m, _, err := c.Exchange(question("mail"), addr)
			if err != nil || len(m.Answer) != 1 || !m.Authoritative {
				t.Errorf("%s %s: %v %v", transport, addr, m, err)
			}
		}
	}
}

// A socket on all addresses answers from the one that was asked: the asker drops what comes from another.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	s, _ := start(t, "0.0.0.0:0")
	_, port, err := net.SplitHostPort(s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 6; i++ {
		c := dns.Client{Timeout: patience} // connects its socket, so the kernel drops answers from elsewhere
		if _, _, err := c.Exchange(question("mail"), fmt.Sprintf("127.0.0.%d:%s", i, port)); err != nil {
			t.Errorf("127.0.0.%d: %v", i, err)
		}
	}
}

func TestNoAddressIsAllOfThem(t *testing.T) {
	s, _ := start(t, ":0")
	if len(s.Addrs()) == 0 {
		t.Fatal("nothing is served")
	}
	for _, addr := range s.Addrs() {
		a := netip.MustParseAddrPort(addr)
		loopback := "127.0.0.1"
		if a.Addr().Is6() {
			loopback = "::1"
		}
		c := dns.Client{Timeout: patience}
		if _, _, err := c.Exchange(question("mail"), net.JoinHostPort(loopback, fmt.Sprint(a.Port()))); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestListenErrors(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for listen, want := range map[string]string{
		s.Addrs()[0]:      "address already in use",
		"localhost:53":    "localhost",
		"127.0.0.1":       "missing port",
		"127.0.0.1:dns":   "is not a port",
		"127.0.0.1:65536": "is not a port",
		"192.0.2.1:0":     "cannot assign",
	} {
		_, err := Listen(Options{Listen: []string{"127.0.0.1:0", listen}})
		if err == nil || !strings.Contains(err.Error(), "DNS address "+listen+" cannot be used") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", listen, err, want)
		}
	}
}

// Every query of many clients at once is answered, each to its own asker.
func TestManyClients(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	const clients, queries = 8, 1000
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := dns.Client{Timeout: patience}
			conn, err := c.Dial(s.Addrs()[0])
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for range queries {
				q := question("mail")
				m, _, err := c.ExchangeWithConn(q, conn)
				if err != nil || m.Id != q.Id || len(m.Answer) != 1 {
					t.Errorf("%v %v", m, err)
					return
				}
			}
		})
	}
	wg.Wait()
	total := 0.0
	for _, m := range gather(t, s)["nearcast_dns_queries_total"] {
		total += m
	}
	if total != clients*queries {
		t.Errorf("%v queries counted, want %d", total, clients*queries)
	}
}

// gather are the server's metrics: name and value of each series.
func gather(t *testing.T, s *Server) map[string]map[string]float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]float64{}
	for _, f := range families {
		all[f.GetName()] = map[string]float64{}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			all[f.GetName()][strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func TestMetrics(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for _, transport := range []string{"udp", "tcp"} {
		c := dns.Client{Net: transport, Timeout: patience}
		for _, name := range []string{"mail", "nothing"} {
			if _, _, err := c.Exchange(question(name), s.Addrs()[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := gather(t, s)["nearcast_dns_query_types_total"]
	for _, want := range []string{"NOERROR udp A", "NXDOMAIN udp A", "NOERROR tcp A", "NXDOMAIN tcp A"} {
		if got[want] != 1 {
			t.Errorf("%q is %v, want 1: %v", want, got[want], got)
		}
	}
	got = gather(t, s)["nearcast_dns_queries_total"]
	for _, want := range []string{"NOERROR geo.example.com.", "NXDOMAIN geo.example.com."} {
		if got[want] != 2 {
			t.Errorf("%q is %v, want 2: %v", want, got[want], got)
		}
	}
}

// What gets no reply is counted, and the server goes on.
func TestDropped(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	conn, err := net.Dial("udp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range [][]byte{{}, {1, 2, 3}, make([]byte, maxQuery+1), append([]byte{0, 0, 0x80}, make([]byte, 20)...)} {
		if _, err := conn.Write(q); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(patience)
	for {
		d := gather(t, s)["nearcast_dns_dropped_total"]
		if d["no_reply"] == 3 && d["too_long"] == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("dropped: %v", d)
		}
		time.Sleep(time.Millisecond)
	}
	c := dns.Client{Timeout: patience}
	if _, _, err := c.Exchange(question("mail"), s.Addrs()[0]); err != nil {
		t.Error(err)
	}
}

// Shutdown under load: whoever sent a query before has its answer, and nothing is left running.
func TestShutdown(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, stop := start(t, "127.0.0.1:0")
	udp, err := net.Dial("udp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp := dial(t, s)
	defer tcp.Close()
	if _, err := tcp.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, tcp)
	const queries = 100
	b, err := question("mail").Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range queries {
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := udp.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for i := range queries {
		if _, err := udp.Read(make([]byte, maxUDP)); err != nil {
			t.Fatalf("%d of %d answers came: %v", i, queries, err)
		}
	}
	if n, err := tcp.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a connection is open after shutdown")
	}
}

func BenchmarkUDP(b *testing.B) {
	s, _ := start(b, "127.0.0.1:0")
	q, err := question("mail").Pack()
	if err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("udp", s.Addrs()[0])
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	const window = 32
	reply := make([]byte, maxUDP)
	b.ReportAllocs()
	inFlight := 0
	for range b.N {
		if _, err := conn.Write(q); err != nil {
			b.Fatal(err)
		}
		if inFlight++; inFlight == window {
			if _, err := conn.Read(reply); err != nil {
				b.Fatal(err)
			}
			inFlight--
		}
	}
	for range inFlight {
		if _, err := conn.Read(reply); err != nil {
			b.Fatal(err)
		}
	}
}

// A defect costs the reply, or the connection of a transfer, and not the process; it is logged once, whoever asks how often.
func TestADefectCostsOneReply(t *testing.T) {
	scene := build(t, services(), table())
	withTransfers(t, scene, TransferConfig{Allow: []string{"127.0.0.0/8"}})
	scene.Snapshot.Set.Zones[0].Records = []dns.RR{nil}
	scene.View = func() *healthmesh.View { panic("for the test") }
	var logged bytes.Buffer
	o := serverOf(scene, "127.0.0.1:0")
	o.Log = slog.New(slog.NewTextHandler(&logged, nil))
	s := serve(t, o)
	udp, err := net.Dial("udp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, transfer := dial(t, s), dial(t, s)
	const times = 5
	why := new(dns.Msg).SetQuestion("_explain.both.geo.example.com.", dns.TypeTXT)
	b, err := why.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	axfr := new(dns.Msg).SetAxfr("geo.example.com.")
	for conn, q := range map[net.Conn]*dns.Msg{tcp: why, transfer: axfr} {
		if _, err := conn.Write(framed(t, q)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("a reply to %v", q)
		}
	}
	end := time.Now().Add(patience)
	for s.dropped[panicked].Load() != times+2 {
		if time.Now().After(end) {
			t.Fatalf("%d packets met the defect, want %d", s.dropped[panicked].Load(), times+2)
		}
		time.Sleep(time.Millisecond)
	}
	for _, network := range []string{"udp", "tcp"} {
		m, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(question("mail"), s.Addrs()[0])
		if err != nil || len(m.Answer) != 1 {
			t.Errorf("%s after the defect: %v, %v", network, m, err)
		}
	}
	if n := strings.Count(logged.String(), "a defect of nearcast"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, logged.String())
	}
}
