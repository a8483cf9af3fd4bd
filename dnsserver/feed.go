package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/semaphore"

	"github.com/nearcast/nearcast/zones"
)

// PrimaryConfig is a server that a zone is transferred from, as the configuration file states it.
type PrimaryConfig struct {
	// Address is the server's, "address" or "address:port".
	Address string `mapstructure:"address"`
	// Key is the name of one of dns.keys, which then signs both ways. Optional.
	Key string `mapstructure:"key"`
}

// The bounds of zones that are fed. Timers are the SOA's, within these.
const (
	maxPrimaries = 8
	minTimer     = 1 * time.Second
	maxTimer     = 24 * time.Hour
	firstRetry   = 1 * time.Second // without a copy; it doubles
	lastRetry    = 1 * time.Minute
	startPace    = time.Millisecond // zones that are new are asked for over so much for each
	startTime    = 10 * time.Second // of all of them
	jitterPart   = 10               // timers run up to a tenth shorter, so that zones do not all ask at once
)

// fedRule is what a zone is fed from.
type fedRule struct {
	file      string
	primaries []primary
}

type primary struct {
	address string // "address:port"
	host    netip.Addr
	key     *key // nil: unsigned
}

// equal tells if two rules feed a zone in the same way.
func (r *fedRule) equal(other *fedRule) bool {
	return r.file == other.file && slices.EqualFunc(r.primaries, other.primaries, func(a, b primary) bool { return a.address == b.address && a.key.equal(b.key) })
}

func compilePrimaries(c ZoneConfig, keys map[string]*key, report Reporter) *fedRule {
	at := c.Key + ".primaries"
	r := &fedRule{file: c.File}
	if len(c.Primaries) > maxPrimaries {
		report(at, len(c.Primaries), fmt.Sprintf("at most %d primaries", maxPrimaries))
	}
	for i, pc := range c.Primaries {
		address, err := serverAddress(pc.Address)
		if err != nil {
			report(fmt.Sprintf("%s[%d].address", at, i), pc.Address, acceptedServer)
			continue
		}
		p := primary{address: address, host: netip.MustParseAddrPort(address).Addr().Unmap()}
		if pc.Key != "" {
			if p.key = keys[dns.CanonicalName(pc.Key)]; p.key == nil {
				report(fmt.Sprintf("%s[%d].key", at, i), pc.Key, "the name of one of dns.keys")
			}
		}
		r.primaries = append(r.primaries, p)
	}
	return r
}

// notified answers a NOTIFY (RFC 1996): a primary says that there is a newer version. A primary that has a key must sign.
func (c *conversation) notified() *zones.Zone {
	m := c.snapshot.Set.Find(c.v.name())
	if m.Zone == nil || len(m.Zone.Wire) != c.v.nameLen {
		c.reply.Rcode, c.ede = dns.RcodeNotAuth, notAuth
		return m.Zone
	}
	rule := c.scene.Settings.fed[m.Zone.Name]
	if rule == nil || !slices.ContainsFunc(rule.primaries, func(p primary) bool { return p.host == c.source && (p.key == nil || p.key == c.key) }) {
		c.refuse(notForIt)
		return m.Zone
	}
	c.reply.Authoritative = true
	if c.scene.Notified != nil {
		c.scene.Notified(m.Zone.Name, c.source)
	}
	return m.Zone
}

// A feeder keeps the copies of zones that have primaries. Its goroutine is Server.Serve's; each zone has one below it.
type feeder struct {
	s         *Server
	changed   chan struct{} // of capacity 1: settings may name other zones
	questions *slots
	fetches   *slots
	waiting   *semaphore.Weighted // octets of zones that came and wait to be put in use
	tally     *tally
	mu        sync.Mutex // guards feeds; run alone changes them
	feeds     map[string]*feed
	good      atomic.Uint64 // transfers
	bad       atomic.Uint64 // rounds in which no primary could be asked, or gave what can be served
}

// A feed is the goroutine of a zone.
type feed struct {
	rule *fedRule // it was told of
	stop context.CancelFunc
	wake chan netip.Addr // of capacity 1: the primaries are to be asked now, the one at this address first
}

func newFeeder(s *Server) *feeder {
	return &feeder{
		s: s, changed: make(chan struct{}, 1), questions: newSlots(maxQuestions, maxQuestionsOf), fetches: newSlots(maxFetches, maxFetchesOf),
		waiting: semaphore.NewWeighted(maxToBeInstalled), tally: &tally{log: s.o.Log}, feeds: map[string]*feed{},
	}
}

// check has the feeder look which zones are to be fed.
func (f *feeder) check() {
	select {
	case f.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// notified has a zone's primaries asked now, first the one that told of a new version.
func (f *feeder) notified(zone string, from netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.feeds[zone]; one != nil {
		one.ask(from)
	}
}

// ask has the primaries asked now; first the one at an address, if that is valid.
func (one *feed) ask(first netip.Addr) {
	select {
	case one.wake <- first:
	default: // it is about to ask
	}
}

// run feeds zones until ctx ends.
func (f *feeder) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		}
		fed := f.s.settings.Load().fed
		f.mu.Lock()
		for zone, one := range f.feeds {
			switch rule := fed[zone]; {
			case rule == nil:
				one.stop()
				delete(f.feeds, zone)
			case !rule.equal(one.rule):
				one.rule = rule
				one.ask(netip.Addr{})
			}
		}
		fresh := len(fed) - len(f.feeds)
		for zone, rule := range fed {
			if f.feeds[zone] != nil {
				continue
			}
			each, stop := context.WithCancel(ctx)
			one := &feed{rule: rule, stop: stop, wake: make(chan netip.Addr, 1)}
			f.feeds[zone] = one
			wait := rand.N(min(time.Duration(fresh)*startPace, startTime))
			running.Go(func() { f.feed(each, zone, one.wake, wait) })
		}
		f.mu.Unlock()
	}
}

// feed keeps one zone's copy until ctx ends.
func (f *feeder) feed(ctx context.Context, zone string, wake <-chan netip.Addr, wait time.Duration) {
	failures, asked := 0, time.Time{}
	for {
		var first netip.Addr
		select {
		case <-ctx.Done():
			return
		case first = <-wake:
			pauseFor(ctx, minTimer-time.Since(asked)) // whoever sends NOTIFY, or forges it
		case <-time.After(wait):
		}
		asked = time.Now()
		err := f.refresh(ctx, zone, first)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
		} else if failures++; failures == 1 || f.zone(zone) == nil {
			f.bad.Add(1)
			f.tally.warn("zone not refreshed", "zone", zone, "failures", failures, "error", err)
		}
		var expired bool
		if wait, expired = f.next(ctx, zone, failures); expired {
			failures = 0 // of a zone without a copy: the primary may be back soon
		}
	}
}

// zone is the zone in use, nil if it has no records.
func (f *feeder) zone(name string) *zones.Zone {
	var wire [maxName]byte
	n := wireName(wire[:], name)
	z := f.s.o.Snapshot().Set.Find(wire[:n]).Zone
	if z == nil || len(z.Wire) != n || z.Absent != "" {
		return nil
	}
	return z
}

// next is how long to wait before the primaries are asked again; a copy that has expired meanwhile goes, of which it tells.
func (f *feeder) next(ctx context.Context, zone string, failures int) (wait time.Duration, expired bool) {
	z := f.zone(zone)
	if z == nil {
		return min(firstRetry<<min(max(failures-1, 0), 10), lastRetry), false
	}
	soa := z.SOA.RRs[0].(*dns.SOA)
	seconds := soa.Refresh
	if failures > 0 {
		seconds = soa.Retry
	}
	wait = min(max(time.Duration(seconds)*time.Second, minTimer), maxTimer)
	wait -= rand.N(wait / jitterPart)
	rule := f.s.settings.Load().fed[zone]
	if rule == nil {
		return wait, false
	}
	if t, err := zones.Confirmed(rule.file); err == nil {
		left := time.Until(t.Add(time.Duration(soa.Expire) * time.Second))
		if left <= 0 {
			switch err := f.s.o.Expire(ctx, zone); {
			case err == nil:
				f.s.o.Log.Error("zone expired: it is not served until a primary confirms it", "zone", zone, "serial", z.Serial())
				return minTimer, true
			case ctx.Err() == nil:
				f.tally.warn("an expired zone is still served", "zone", zone, "error", err)
			}
			return minTimer, false
		}
		wait = min(wait, left+time.Millisecond)
	}
	return wait, false
}

// refresh asks the primaries, in order but the one at first before the others, until one gives a newer version. A copy is
// confirmed by a primary that has the same; one that has an older one is behind.
func (f *feeder) refresh(ctx context.Context, zone string, first netip.Addr) error {
	rule := f.s.settings.Load().fed[zone]
	if rule == nil {
		return nil // a reload took it away, and this ends soon
	}
	var errs []error
	confirmed, refused := false, false
	for _, p := range rule.inOrder(first) {
		serial, err := f.serial(ctx, zone, p)
		have := f.zone(zone)
		switch {
		case err != nil:
		case have == nil || newer(serial, have.Serial()):
			if err = f.take(ctx, zone, rule, p, have); err == nil {
				return nil
			}
			refused = true
		case serial == have.Serial():
			if err = zones.Confirm(rule.file, time.Now()); err == nil {
				confirmed = true
			}
		default:
			err = fmt.Errorf("its serial %d is older than ours, %d", serial, have.Serial())
			f.tally.warn("a primary is behind", "zone", zone, "primary", p.address, "serial", serial, "ours", have.Serial())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("primary %s: %w", p.address, err))
		}
	}
	if confirmed && !refused {
		return nil
	}
	return errors.Join(errs...)
}

// inOrder is the primaries, those at the address first before the others.
func (r *fedRule) inOrder(first netip.Addr) []primary {
	there := func(p primary) bool { return p.host == first }
	others := slices.DeleteFunc(slices.Clone(r.primaries), there)
	return append(slices.DeleteFunc(slices.Clone(r.primaries), func(p primary) bool { return !there(p) }), others...)
}
