package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A primary gives zones away to whoever asks (AXFR over TCP), and counts how often it is asked and gives.
type primary struct {
	addr   string
	expire int        // seconds, of the zones that are set
	mu     sync.Mutex // guards the rest
	zones  map[string][]dns.RR
	given  map[string]int
	asked  map[string]int // for the serial
}

// startPrimary serves until the test ends.
func startPrimary(t *testing.T) *primary {
	t.Helper()
	p := &primary{expire: 604800, zones: map[string][]dns.RR{}, given: map[string]int{}, asked: map[string]int{}}
	l, udp, err := listenBoth()
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	for _, s := range []*dns.Server{{Listener: l, Handler: p}, {PacketConn: udp, Handler: p}} {
		go func() { _ = s.ActivateAndServe() }() // ends with the test's Shutdown
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return p
}

// listenBoth listens at a free port of TCP and UDP: one that TCP has free can be taken by a client's socket of UDP, so some are tried.
func listenBoth() (l net.Listener, pc net.PacketConn, err error) {
	for range 10 {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, pc, nil
		}
		l.Close()
	}
	return nil, nil, err
}

// set makes text, relative to the zone, its version of that serial; "" takes the zone away.
func (p *primary) set(t *testing.T, zone string, serial int, text string) {
	t.Helper()
	var rrs []dns.RR
	if text != "" {
		parser := dns.NewZoneParser(strings.NewReader(fmt.Sprintf("@ 60 SOA ns h %d 1 1 %d 60\n@ 60 NS ns.elsewhere.\n%s\n", serial, p.expire, text)), zone, "")
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			rrs = append(rrs, rr)
		}
		if err := parser.Err(); err != nil {
			t.Fatal(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones[zone] = rrs
}

func (p *primary) transfers(zone string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given[zone]
}

func (p *primary) questions(zone string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[zone]
}

func (p *primary) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	p.mu.Lock()
	rrs := p.zones[q.Question[0].Name]
	r := new(dns.Msg).SetReply(q)
	r.Authoritative = true
	if q.Question[0].Qtype == dns.TypeSOA {
		p.asked[q.Question[0].Name]++
	}
	switch {
	case rrs == nil:
		r.Rcode = dns.RcodeServerFailure
	case q.Question[0].Qtype == dns.TypeSOA:
		r.Answer = rrs[:1]
	default:
		p.given[q.Question[0].Name]++
		r.Answer = append(rrs[:len(rrs):len(rrs)], rrs[0])
	}
	p.mu.Unlock()
	_ = w.WriteMsg(r) // whoever asked may be gone
}

// A served is a director under test.
type served struct {
	d    *director
	addr string
	stop func()
}

// serveFile runs a director of that configuration file until stop, or the test's end.
func serveFile(t *testing.T, path string) *served {
	t.Helper()
	from := source{path: path}
	l, err := from.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	d := &director{source: from, name: "director@test", state: filepath.Join(t.TempDir(), "state"), log: log, loaded: l}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- d.run(ctx, func() { close(ready) }) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return &served{d, d.dns.Addrs()[0], stop}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// answer is the rcode and the records' data.
func (s *served) answer(name string, qtype uint16) string {
	r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion(name, qtype), s.addr)
	if err != nil {
		return err.Error()
	}
	text := dns.RcodeToString[r.Rcode]
	for _, rr := range r.Answer {
		text += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return text
}

// expect waits for an answer.
func (s *served) expect(t *testing.T, name string, qtype uint16, want string) {
	t.Helper()
	until(t, func() string {
		if got := s.answer(name, qtype); got != want {
			return fmt.Sprintf("%s %s: %s, want %s", name, dns.Type(qtype), got, want)
		}
		return ""
	})
}

// until waits until there is nothing wrong any more.
func until(t *testing.T, wrong func() string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		what := wrong()
		if what == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
