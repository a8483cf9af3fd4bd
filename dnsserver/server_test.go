package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
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

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addrs()[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// framed is a query as TCP carries it.
func framed(t *testing.T, q *dns.Msg) []byte {
	t.Helper()
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func readFramed(t *testing.T, r io.Reader) *dns.Msg {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

// Queries sent in one piece, in many, and cut anywhere are answered in order.
func TestPipelining(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	conn := dial(t, s)
	var all []byte
	var ids []uint16
	for i := range 200 {
		q := question(fmt.Sprintf("x%d.wild", i))
		ids = append(ids, q.Id)
		all = append(all, framed(t, q)...)
	}
	go func() {
		for piece := 1; len(all) > 0; piece = piece%97 + 1 {
			n := min(piece, len(all))
			if _, err := conn.Write(all[:n]); err != nil {
				return // the reader sees it
			}
			all = all[n:]
		}
	}()
	for i, id := range ids {
		if m := readFramed(t, conn); m.Id != id || len(m.Answer) != 1 {
			t.Fatalf("reply %d is %v", i, m)
		}
	}
}

// A connection that had large replies holds no room for such.
func TestLargeRepliesLeaveNothing(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools keep goes with the second
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	q := question("big")
	q.Question[0].Qtype = dns.TypeTXT
	many := bytes.Repeat(framed(t, q), maxUnsent/4000)
	const conns = 50
	before := heap()
	for range conns {
		conn := dial(t, s)
		if _, err := conn.Write(many); err != nil {
			t.Fatal(err)
		}
		for range maxUnsent / 4000 {
			readFramed(t, conn)
		}
	}
	for end := time.Now().Add(idleTime / 2); ; time.Sleep(time.Millisecond) { // the last may not have come back from its write
		each := (heap() - before) / conns
		if each < 2*maxKept {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a connection holds %d octets", each)
		}
	}
}

// What is no query ends the connection, after the replies to what came with it.
func TestRepliesGoOutBeforeTheEnd(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for name, last := range map[string][]byte{
		"a length of 0":     {0, 0},
		"a reply":           append([]byte{0, 12, 0, 0, 0x80}, make([]byte, 9)...),
		"a query cut short": {0, 40, 1},
		"a query too long":  {0xff, 0xff},
	} {
		conn := dial(t, s)
		q := question("mail")
		if _, err := conn.Write(append(bytes.Repeat(framed(t, q), 3), last...)); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if m := readFramed(t, conn); m.Id != q.Id {
				t.Errorf("%s: %v", name, m)
			}
		}
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%s: a reply", name)
		}
	}
}

func TestTCPCutsOff(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	for name, b := range map[string][]byte{
		"a length of 0":        {0, 0},
		"a query too long":     {0xff, 0xff},
		"a reply":              append([]byte{0, 12, 0, 0, 0x80}, make([]byte, 9)...),
		"half a header's size": {0, 3, 1, 2, 3},
	} {
		conn := dial(t, s)
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: a reply", name)
		}
	}
}

// One client cannot take all connections, and those that it has are given back.
func TestClientConnectionsAreBounded(t *testing.T) {
	s, _ := start(t, "127.0.0.1:0")
	var conns []net.Conn
	for range maxClientConns {
		conn := dial(t, s)
		conns = append(conns, conn)
		if _, err := conn.Write(framed(t, question("mail"))); err != nil {
			t.Fatal(err)
		}
		readFramed(t, conn)
	}
	more := dial(t, s)
	if n, err := more.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatal("a connection beyond the bound is served")
	}
	if d := gather(t, s)["nearcast_dns_dropped_total"]["tcp_limit"]; d != 1 {
		t.Errorf("%v dropped, want 1", d)
	}
	conns[0].Close()
	deadline := time.Now().Add(patience)
	for gather(t, s)["nearcast_tcp_connections"][""] >= maxClientConns {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
		time.Sleep(time.Millisecond)
	}
	conn := dial(t, s)
	if _, err := conn.Write(framed(t, question("mail"))); err != nil {
		t.Fatal(err)
	}
	readFramed(t, conn)
}

// Who drips octets is cut within messageTime, and others are served meanwhile.
func TestSlowClientIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the time that a query may take")
	}
	s, _ := start(t, "127.0.0.1:0")
	slow := dial(t, s)
	b := framed(t, question("mail"))
	begin := time.Now()
	for i := 0; ; i++ {
		if _, err := slow.Write(b[i%4 : i%4+1]); err != nil {
			break
		}
		c := dns.Client{Net: "tcp", Timeout: patience}
		if _, _, err := c.Exchange(question("mail"), s.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > messageTime+patience {
			t.Fatal("a client that drips is not cut")
		}
		time.Sleep(200 * time.Millisecond) // it drips
		if i > len(b)/2 {
			b = append(b, b...)
		}
	}
	if d := time.Since(begin); d < messageTime/2 {
		t.Errorf("cut after %v, before its time", d)
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
