package dnsserver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// limited is a scene with a rate.
func limited(t testing.TB, rate, slips int) *Scene {
	t.Helper()
	s := build(t, services(), nil)
	c := testConfig()
	c.RateLimit = RateLimitConfig{ResponsesPerSecond: &rate, Slip: &slips, Exempt: []string{"192.0.2.0/24"}}
	s.Settings, s.Limiter = settings(t, c), newLimiter()
	return s
}

// A network gets its rate, whatever it asks and from whichever address; others, and other classes, have their own.
func TestRateLimit(t *testing.T) {
	s := limited(t, 10, 0)
	count := func(query string, over Transport, sources ...string) (replies int) {
		t.Helper()
		for i := range 100 {
			if Answer(nil, ask(t, query), netip.MustParseAddr(sources[i%len(sources)]), over, s, nil) != nil {
				replies++
			}
		}
		return replies
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d replies of 100, want %d", what, got, want)
		}
	}
	expect("one network", count("ns1 A", UDP, "198.51.100.7", "198.51.100.8"), 10)
	expect("the same class", count("mail A", UDP, "198.51.100.9"), 0)
	expect("the same class, the slow way", count("alias A", UDP, "198.51.100.9"), 0)
	expect("names that are not there", count("gone A", UDP, "198.51.100.7"), 10)
	expect("types that are not there", count("ns1 TXT", UDP, "198.51.100.7"), 0)
	expect("referrals", count("x.child A", UDP, "198.51.100.7"), 10)
	expect("errors", count("example.com. A", UDP, "198.51.100.7"), 10)
	expect("errors, the slow way", count("ns1 A +version=1", UDP, "198.51.100.7"), 0)
	expect("TCP", count("ns1 A", TCP, "198.51.100.7"), 100)
	expect("another network", count("ns1 A", UDP, "198.51.101.7"), 10)
	expect("one IPv6 network", count("ns1 A", UDP, "2001:db8:1:0::1", "2001:db8:1:ff::1"), 10)
	expect("another IPv6 network", count("ns1 A", UDP, "2001:db8:1:100::1"), 10)
	expect("an exempt network", count("ns1 A", UDP, "192.0.2.1"), 100)
	s.Now = s.Now.Add(500 * time.Millisecond)
	expect("half a second later", count("ns1 A", UDP, "198.51.100.7"), 5)
	s.Now = s.Now.Add(time.Hour)
	expect("an hour later", count("ns1 A", UDP, "198.51.100.7"), 10)
	s.Now = s.Now.Add(-24 * time.Hour)
	expect("the clock set back", count("ns1 A", UDP, "198.51.100.7"), 10)
	if got := s.Limiter.counted[classDenial][drop].Load(); got != 190 {
		t.Errorf("%d denials counted as dropped, want 190", got)
	}
}

// Whoever is over the rate learns now and then how to get in: by TCP, or with a cookie, which has no rate.
func TestSlip(t *testing.T) {
	for name, way := range ways {
		s := limited(t, 1, 2)
		counts := map[string]int{}
		good := ""
		for range 101 {
			b := way(nil, ask(t, "big TXT +edns"), resolver, UDP, s, nil)
			if b == nil {
				counts["none"]++
				continue
			}
			counts[brief(parse(t, b))]++
		}
		// The first is within the rate, and too large for UDP.
		if counts["none"] != 50 || counts["NOERROR aa tc | - | - | opt 1232"] != 51 {
			t.Errorf("%s, no cookie: %v", name, counts)
		}
		clear(counts)
		for range 100 {
			b := way(nil, ask(t, "ns1 A +cookie=0102030405060708"), resolver, UDP, s, nil)
			if b == nil {
				counts["none"]++
				continue
			}
			m := parse(t, b)
			good = m.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie
			counts[strings.ReplaceAll(brief(m), good, "COOKIE")]++
		}
		if counts["none"] != 50 || counts["BADCOOKIE aa | - | - | opt 1232 cookie COOKIE"] != 50 {
			t.Errorf("%s, a client's cookie: %v", name, counts)
		}
		for range 100 {
			b := way(nil, ask(t, "ns1 A +cookie="+good), resolver, UDP, s, nil)
			if b == nil || !strings.HasPrefix(brief(parse(t, b)), "NOERROR aa | ns1 300 a 192.0.2.53") {
				t.Fatalf("%s, a good cookie: %x", name, b)
			}
		}
		for range 100 {
			if way(nil, ask(t, "ns1 A +cookie="+good), resolver.Next(), UDP, s, nil) == nil {
				counts["another address"]++
			}
		}
		if counts["another address"] != 50 {
			t.Errorf("%s: another address with that cookie is dropped %d times", name, counts["another address"])
		}
	}
}

// Over the rate, a query for a cookie is answered as it is under it: the reply is no larger (RFC 7873, section 5.4).
func TestSlipWithoutQuestion(t *testing.T) {
	s := limited(t, 1, 1)
	whole := ask(t, "ns1 A +cookie=0102030405060708")
	var v query
	if !v.read(whole) {
		t.Fatal("a query that is not plain")
	}
	q := append([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, whole[v.end:]...)
	for range 10 {
		m := parse(t, Answer(nil, q, resolver, UDP, s, nil))
		if m.Rcode != dns.RcodeSuccess || m.Truncated || len(m.IsEdns0().Option) != 1 {
			t.Fatalf("%s", brief(m))
		}
	}
}

// A flood from everywhere takes no memory, and leaves nearly every other network its rate.
func TestRateLimitUnderFlood(t *testing.T) {
	const victims, flood, rate = 100, 1_000_000, 100
	l := newLimiter()
	random := rand.New(rand.NewPCG(1, 2))
	address := func(n uint32) netip.Addr {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], n)
		return netip.AddrFrom4(a)
	}
	now := uint64(1e15)
	lost := 0
	for i := range flood {
		now++ // a million a second
		l.allow(address(random.Uint32()), classData, rate, now)
		if i%100 == 0 && !l.allow(address(uint32(i/100%victims)<<8), classData, rate, now) { // 100 a second each
			lost++
		}
	}
	if lost > flood/100/50 {
		t.Errorf("%d of %d replies to networks within their rate are lost", lost, flood/100)
	}
}

// Workers share a rate, and race for it.
func TestRateLimitIsShared(t *testing.T) {
	const workers, rate = 8, 1000
	l := newLimiter()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rate {
				if l.allow(resolver, classData, rate, 1e15) {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// One that loses every race is let through.
	if n := allowed.Load(); n < rate || n > 2*rate {
		t.Errorf("%d replies allowed, want %d", n, rate)
	}
}

func BenchmarkRateLimit(b *testing.B) {
	s := limited(b, maxRate, 2)
	q := ask(b, "ns1 A +edns")
	out := make([]byte, 0, maxUDP)
	for name, l := range map[string]*limiter{"with": s.Limiter, "without": nil} {
		b.Run(name, func(b *testing.B) {
			s.Limiter = l
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Now = time.UnixMicro(int64(i))
				Answer(out, q, resolver, UDP, s, nil)
			}
		})
	}
}

// What the configuration may say of rates.
func TestRateLimitConfig(t *testing.T) {
	n := func(n int) *int { return &n }
	for _, c := range []struct {
		config     RateLimitConfig
		rate, slip int
		problem    string
	}{
		{RateLimitConfig{}, defaultRate, defaultSlip, ""},
		{RateLimitConfig{ResponsesPerSecond: n(0), Slip: n(0)}, 0, 0, ""},
		{RateLimitConfig{ResponsesPerSecond: n(-1)}, -1, 2, "dns.rate_limit.responses_per_second -1: 0 to 1000000"},
		{RateLimitConfig{ResponsesPerSecond: n(5), Slip: n(11)}, 5, 11, "dns.rate_limit.slip 11: 0 to 10"},
		{RateLimitConfig{Exempt: []string{"192.0.2.1/24"}}, defaultRate, defaultSlip, "dns.rate_limit.exempt[0] 192.0.2.1/24: a network such as 192.0.2.0/24 or 2001:db8::/32, or an address"},
	} {
		problem := ""
		s := (&Config{RateLimit: c.config}).Compile("dns", ".", nil, func(key string, value any, accepted string) {
			problem += fmt.Sprintf("%s %v: %s", key, value, accepted)
		})
		if problem != c.problem || s.rate != c.rate || s.slip != c.slip {
			t.Errorf("%+v: rate %d, slip %d, %q; want %d, %d, %q", c.config, s.rate, s.slip, problem, c.rate, c.slip, c.problem)
		}
	}
}
