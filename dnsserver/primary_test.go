package dnsserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// goodKey is the key of these tests as a director has it.
func goodKey(t testing.TB) *key {
	t.Helper()
	s := build(t, services(), nil)
	withTransfers(t, s, TransferConfig{})
	return s.Settings.keys["good."]
}

// A fakePrimary has the zone fed.test, over UDP and TCP.
type fakePrimary struct {
	says, gives uint32 // its serial, and the serial of what it transfers
	silent      bool   // over UDP
	strips      bool   // the signatures of its replies
	asked       func() // at each question for the SOA; may be nil
}

// fedText is a version of fed.test.
func fedText(serial uint32) string {
	return fmt.Sprintf("fed.test. 60 SOA ns.fed.test. h.fed.test. %d 3600 600 7200 60\nfed.test. 60 NS ns.elsewhere.\nfed.test. 60 TXT \"%d\"\n", serial, serial)
}

// start serves until the test ends; k signs, if it is not nil.
func (p *fakePrimary) start(t testing.TB, k *key) primary {
	t.Helper()
	ln, pc, err := listenBoth()
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"good.": goodSecret}
	for _, s := range []*dns.Server{{PacketConn: pc, TsigSecret: secrets}, {Listener: ln, TsigSecret: secrets}} {
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { p.reply(t, w, q) })
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return primary{address: ln.Addr().String(), host: netip.MustParseAddr("127.0.0.1"), key: k}
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

func (p *fakePrimary) reply(t testing.TB, w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	serial := p.gives
	if q.Question[0].Qtype == dns.TypeSOA {
		if p.asked != nil {
			p.asked()
		}
		if w.LocalAddr().Network() == "udp" && p.silent {
			return
		}
		serial = p.says
	}
	z := dns.NewZoneParser(strings.NewReader(fedText(serial)), "", "")
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		m.Answer = append(m.Answer, rr)
	}
	if q.Question[0].Qtype == dns.TypeSOA {
		m.Answer = m.Answer[:1]
	} else {
		m.Answer = append(m.Answer, m.Answer[0])
	}
	if q.IsTsig() != nil && !p.strips {
		m.SetTsig("good.", dns.HmacSHA256, tsigFudge, time.Now().Unix())
	}
	if err := w.WriteMsg(m); err != nil {
		t.Error(err)
	}
}

// A fedServer feeds fed.test, as a director does.
type fedServer struct {
	*Server
	file    string
	set     atomic.Pointer[steer.Snapshot]
	reloads atomic.Int32
	log     lines
}

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fedFrom feeds from primaries, and has a copy already if have is not 0, confirmed an hour ago.
func fedFrom(t testing.TB, have uint32, primaries ...primary) *fedServer {
	t.Helper()
	f := &fedServer{file: filepath.Join(t.TempDir(), "copy")}
	if have != 0 {
		f.write(t, have, time.Now().Add(-time.Hour))
	}
	f.load(t)
	s, err := Listen(Options{
		Settings: f.settings(primaries), Snapshot: f.set.Load, View: func() *healthmesh.View { return &healthmesh.View{} }, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
		Install: func(_ context.Context, _, text string) error {
			if err := os.WriteFile(f.file, []byte(text), 0o600); err != nil {
				return err
			}
			f.load(t)
			return zones.Confirm(f.file, time.Now())
		},
		Expire: func(context.Context, string) error { f.reloads.Add(1); f.load(t); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Server = s
	return f
}

func (f *fedServer) settings(primaries []primary) *Settings {
	return &Settings{fed: map[string]*fedRule{"fed.test.": {file: f.file, primaries: primaries}}}
}

func (f *fedServer) write(t testing.TB, serial uint32, confirmed time.Time) {
	t.Helper()
	if err := os.WriteFile(f.file, []byte(fedText(serial)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := zones.Confirm(f.file, confirmed); err != nil {
		t.Fatal(err)
	}
}

func (f *fedServer) load(t testing.TB) {
	set := zones.Load("", regions, []zones.ZoneConfig{{Name: "fed.test", File: f.file, Fed: true}}, func(key string, value any, accepted string) {
		t.Errorf("%s: %v: %s", key, value, accepted)
	})
	f.set.Store(steer.Build(steer.Input{Generation: 1, Survey: steer.NewSurvey(set, nil), View: &healthmesh.View{}}))
}

func (f *fedServer) serial() uint32 {
	if z := f.feeder.zone("fed.test."); z != nil {
		return z.Serial()
	}
	return 0
}

// What a round of questions to the primaries comes to. The copy is confirmed by who has the same version, and by no other.
func TestRefresh(t *testing.T) {
	k := goodKey(t)
	for name, c := range map[string]struct {
		have      uint32
		primaries []fakePrimary
		key       *key
		serial    uint32 // after it
		confirmed bool   // by a primary that has the same, or by a transfer
		err, log  string
	}{
		"the first version":                         {0, []fakePrimary{{says: 5, gives: 5}}, nil, 5, true, "", ""},
		"the same":                                  {5, []fakePrimary{{says: 5}}, nil, 5, true, "", ""},
		"a newer one":                               {5, []fakePrimary{{says: 6, gives: 6}}, k, 6, true, "", ""},
		"a newer one over the wrap":                 {1<<32 - 2, []fakePrimary{{says: 3, gives: 3}}, nil, 3, true, "", ""},
		"an older one":                              {5, []fakePrimary{{says: 4, gives: 4}}, nil, 5, false, "older than ours, 5", "a primary is behind"},
		"an older one, then the same":               {5, []fakePrimary{{says: 4, gives: 4}, {says: 5}}, nil, 5, true, "", "a primary is behind"},
		"the same, then a newer one":                {5, []fakePrimary{{says: 5}, {says: 6, gives: 6}}, nil, 6, true, "", ""},
		"no reply over UDP":                         {5, []fakePrimary{{says: 6, gives: 6, silent: true}}, k, 6, true, "", ""},
		"no signatures":                             {5, []fakePrimary{{says: 6, gives: 6, strips: true}}, k, 5, false, "not signed", ""},
		"no signatures, the same":                   {5, []fakePrimary{{says: 5, strips: true}}, k, 5, false, "not signed", ""},
		"another zone than it told of":              {5, []fakePrimary{{says: 6, gives: 4}}, nil, 5, false, "not newer than ours", ""},
		"the one it has, not what it told":          {5, []fakePrimary{{says: 6, gives: 5}}, nil, 5, false, "not newer than ours", ""},
		"one that gives no newer one, and the same": {5, []fakePrimary{{says: 6, gives: 4}, {says: 5}}, nil, 5, true, "not newer than ours", ""},
		"no copy, and an older one is good":         {0, []fakePrimary{{says: 6, gives: 4}}, nil, 4, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var primaries []primary
			for i := range c.primaries {
				primaries = append(primaries, c.primaries[i].start(t, c.key))
			}
			f := fedFrom(t, c.have, primaries...)
			err := f.feeder.refresh(t.Context(), "fed.test.", netip.Addr{})
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			at, err := zones.Confirmed(f.file)
			if confirmed := err == nil && time.Since(at) < time.Minute; f.serial() != c.serial || confirmed != c.confirmed {
				t.Errorf("serial %d, confirmed %v", f.serial(), confirmed)
			}
			if log := f.log.String(); strings.Contains(log, "level=WARN") != (c.log != "") || !strings.Contains(log, c.log) {
				t.Errorf("logged %q", log)
			}
		})
	}
}

// A primary that sent NOTIFY is asked before the others, which keep their order.
func TestNotifierIsAskedFirst(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	r := &fedRule{primaries: []primary{{host: a}, {host: b}, {host: c}}}
	for first, want := range map[netip.Addr][]netip.Addr{{}: {a, b, c}, a: {a, b, c}, b: {b, a, c}, c: {c, a, b}} {
		var got []netip.Addr
		for _, p := range r.inOrder(first) {
			got = append(got, p.host)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v first: %v, want %v", first, got, want)
		}
	}
}

// A primary is asked no more at once than the bound, however many zones it has.
func TestQuestionsAreBounded(t *testing.T) {
	var now, most atomic.Int32
	p := &fakePrimary{says: 5, asked: func() {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	}}
	f := fedFrom(t, 5, p.start(t, nil))
	var all sync.WaitGroup
	for range 10 * maxQuestionsOf {
		all.Go(func() {
			if _, err := f.feeder.serial(t.Context(), "fed.test.", f.Server.settings.Load().fed["fed.test."].primaries[0]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if m := most.Load(); m < 2 || m > maxQuestionsOf {
		t.Errorf("%d questions at once", m)
	}
}

// A copy that no primary confirms is served until it expires, and no longer.
func TestCopyExpiresWhileServed(t *testing.T) {
	f := fedFrom(t, 5)
	const life = 2 * time.Hour // expire of fedText
	f.write(t, 5, time.Now().Add(time.Minute-life))
	if wait, expired := f.feeder.next(t.Context(), "fed.test.", 1); expired || wait <= 50*time.Second || wait > time.Minute+time.Second || f.serial() != 5 || f.reloads.Load() != 0 {
		t.Errorf("a minute before it expires: waits %v, serial %d, %d reloads", wait, f.serial(), f.reloads.Load())
	}
	f.write(t, 5, time.Now().Add(-time.Second-life))
	if wait, expired := f.feeder.next(t.Context(), "fed.test.", 1); !expired || wait != minTimer || f.serial() != 0 || f.reloads.Load() != 1 {
		t.Errorf("after it expired: waits %v, serial %d, %d reloads", wait, f.serial(), f.reloads.Load())
	}
	if _, expired := f.feeder.next(t.Context(), "fed.test.", 2); expired || f.reloads.Load() != 1 {
		t.Error("it expires twice")
	}
}

// Primaries that a reload brings are asked at once, not when the zone's timer ends.
func TestNewPrimariesAreAsked(t *testing.T) {
	asked := make(chan struct{}, 16)
	old := &fakePrimary{says: 5, asked: func() { asked <- struct{}{} }}
	f := fedFrom(t, 5, old.start(t, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx) }()
	<-asked
	set := f.set.Load().Set
	f.Apply(f.settings([]primary{(&fakePrimary{says: 6, gives: 6}).start(t, nil)}), set, set)
	if !within(func() bool { return f.serial() == 6 }) {
		t.Errorf("serial %d", f.serial())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// within waits until a condition holds.
func within(holds func() bool) bool {
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
