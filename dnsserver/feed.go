package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

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
	transferTime = 10 * time.Minute // for a whole zone
	transferIdle = 30 * time.Second // for the next message of it
	maxFed       = 256 << 20        // octets of a zone's records, as much as a zone file may have
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
		c.scene.Notified(m.Zone.Name)
	}
	return m.Zone
}

// A feeder keeps the copies of zones that have primaries. Its goroutine is Server.Serve's; each zone has one below it.
type feeder struct {
	s       *Server
	changed chan struct{} // of capacity 1: settings may name other zones
	mu      sync.Mutex    // guards wake
	wake    map[string]chan struct{}
	good    atomic.Uint64 // transfers
	bad     atomic.Uint64 // rounds in which no primary could be asked, or gave what can be served
}

func newFeeder(s *Server) *feeder {
	return &feeder{s: s, changed: make(chan struct{}, 1), wake: map[string]chan struct{}{}}
}

// check has the feeder look which zones are to be fed.
func (f *feeder) check() {
	select {
	case f.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// notified has a zone's primaries asked now.
func (f *feeder) notified(zone string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case f.wake[zone] <- struct{}{}:
	default: // it is about to ask, or is not fed
	}
}

// run feeds zones until ctx ends.
func (f *feeder) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	stops := map[string]context.CancelFunc{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.changed:
		}
		fed := f.s.settings.Load().fed
		f.mu.Lock()
		for zone, stop := range stops {
			if fed[zone] == nil {
				stop()
				delete(stops, zone)
				delete(f.wake, zone)
			}
		}
		for zone := range fed {
			if stops[zone] != nil {
				continue
			}
			one, stop := context.WithCancel(ctx)
			wake := make(chan struct{}, 1)
			stops[zone], f.wake[zone] = stop, wake
			running.Go(func() { f.feed(one, zone, wake) })
		}
		f.mu.Unlock()
	}
}

// feed keeps one zone's copy until ctx ends.
func (f *feeder) feed(ctx context.Context, zone string, wake <-chan struct{}) {
	wait, failures, asked := time.Duration(0), 0, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			pauseFor(ctx, minTimer-time.Since(asked)) // whoever sends NOTIFY, or forges it
		case <-time.After(wait):
		}
		asked = time.Now()
		err := f.refresh(ctx, zone)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
		} else if failures++; failures == 1 || f.zone(zone) == nil {
			f.bad.Add(1)
			f.s.o.Log.Warn("zone not refreshed", "zone", zone, "failures", failures, "error", err)
		}
		wait = f.next(ctx, zone, failures)
	}
}

// zone is the zone in use, nil if it has no records.
func (f *feeder) zone(name string) *zones.Zone {
	for _, z := range f.s.o.Snapshot().Set.Zones {
		if z.Name == name && z.Absent == "" {
			return z
		}
	}
	return nil
}

// next is how long to wait before the primaries are asked again; a copy that has expired meanwhile goes.
func (f *feeder) next(ctx context.Context, zone string, failures int) time.Duration {
	z := f.zone(zone)
	if z == nil {
		return min(firstRetry<<min(max(failures-1, 0), 10), lastRetry)
	}
	soa := z.SOA.RRs[0].(*dns.SOA)
	seconds := soa.Refresh
	if failures > 0 {
		seconds = soa.Retry
	}
	wait := min(max(time.Duration(seconds)*time.Second, minTimer), maxTimer)
	wait -= rand.N(wait / jitterPart)
	rule := f.s.settings.Load().fed[zone]
	if rule == nil {
		return wait
	}
	if t, err := zones.Confirmed(rule.file); err == nil {
		left := time.Until(t.Add(time.Duration(soa.Expire) * time.Second))
		if left <= 0 {
			f.s.o.Log.Error("zone expired: it is not served until a primary confirms it", "zone", zone, "serial", z.Serial())
			if err := f.s.o.Reload(ctx); err != nil {
				f.s.o.Log.Error("an expired zone is still served", "zone", zone, "error", err)
			}
			return minTimer
		}
		wait = min(wait, left+time.Millisecond)
	}
	return wait
}

// refresh asks the primaries, in order, until one confirms the copy or gives a newer one.
func (f *feeder) refresh(ctx context.Context, zone string) error {
	rule := f.s.settings.Load().fed[zone]
	if rule == nil {
		return nil // a reload took it away, and this ends soon
	}
	var errs []error
	for _, p := range rule.primaries {
		err := f.refreshFrom(ctx, zone, rule, p)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("primary %s: %w", p.address, err))
	}
	return errors.Join(errs...)
}

func (f *feeder) refreshFrom(ctx context.Context, zone string, rule *fedRule, p primary) error {
	serial, err := f.serial(ctx, zone, p)
	if err != nil {
		return err
	}
	have := f.zone(zone)
	if have != nil && !newer(serial, have.Serial()) {
		return zones.Confirm(rule.file, time.Now())
	}
	var copied []dns.RR
	if have != nil {
		if copied, err = readCopy(rule.file, zone); err != nil {
			copied = nil // the whole zone then
		}
	}
	rrs, err := f.fetch(ctx, zone, p, copied)
	if err != nil && copied != nil {
		rrs, err = f.fetch(ctx, zone, p, nil) // not every primary keeps to RFC 1995
	}
	if err != nil {
		return err
	}
	text, err := zones.Text(rrs)
	if err == nil {
		err = f.s.o.Install(ctx, zone, text)
	}
	if err != nil {
		return fmt.Errorf("serial %d cannot be served: %w", rrs[0].(*dns.SOA).Serial, err)
	}
	f.good.Add(1)
	f.s.o.Log.Info("zone transferred", "zone", zone, "primary", p.address, "serial", rrs[0].(*dns.SOA).Serial, "records", len(rrs))
	return nil
}

// serial asks a primary for its version.
func (f *feeder) serial(ctx context.Context, zone string, p primary) (uint32, error) {
	for _, transport := range []string{"udp", "tcp"} {
		m := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
		m.RecursionDesired = false
		client := dns.Client{Net: transport, Timeout: exchangeTimeout, Dialer: f.s.dialer(transport, p.address)}
		if p.key != nil {
			m.SetTsig(p.key.name, p.key.algorithm, tsigFudge, time.Now().Unix())
			client.TsigSecret = map[string]string{p.key.name: p.key.secret}
		}
		r, _, err := client.ExchangeContext(ctx, m, p.address)
		switch {
		case err != nil:
			return 0, err
		case r.Truncated:
			continue
		case r.Rcode != dns.RcodeSuccess || !r.Authoritative:
			return 0, fmt.Errorf("SOA refused: %s, authoritative: %v", dns.RcodeToString[r.Rcode], r.Authoritative)
		}
		for _, rr := range r.Answer {
			if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, zone) {
				return soa.Serial, nil
			}
		}
		return 0, errors.New("no SOA in its answer")
	}
	return 0, errors.New("its SOA is truncated")
}

// readCopy reads the records of a copy; the SOA is the first.
func readCopy(file, zone string) (rrs []dns.RR, err error) {
	rrs, err = zones.Read(file, zone)
	if err == nil && (len(rrs) == 0 || rrs[0].Header().Rrtype != dns.TypeSOA) {
		return nil, errors.New("no SOA at its beginning")
	}
	return rrs, err
}

// fetch transfers a zone: what changed since have, or all of it if that is nil. The SOA is the first record, once.
func (f *feeder) fetch(ctx context.Context, zone string, p primary, have []dns.RR) ([]dns.RR, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	conn, err := f.s.dialer("tcp", p.address).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m := new(dns.Msg).SetAxfr(zone)
	if have != nil {
		soa := have[0].(*dns.SOA)
		m.SetIxfr(zone, soa.Serial, soa.Ns, soa.Mbox)
	}
	t := &dns.Transfer{Conn: &dns.Conn{Conn: conn}, ReadTimeout: transferIdle, WriteTimeout: exchangeTimeout}
	if p.key != nil {
		m.SetTsig(p.key.name, p.key.algorithm, tsigFudge, time.Now().Unix())
		t.TsigSecret = map[string]string{p.key.name: p.key.secret}
	}
	stream, err := t.In(m, p.address)
	if err != nil {
		return nil, err
	}
	var got []dns.RR
	size := 0
	for e := range stream {
		if err == nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			zones.FromWire(rr)
			if size += dns.Len(rr); size > maxFed && err == nil {
				err = fmt.Errorf("more than %d octets", maxFed)
				conn.Close()
			}
			if err == nil && dns.IsSubDomain(zone, strings.ToLower(rr.Header().Name)) {
				got = append(got, rr)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return assemble(have, got)
}

// assemble makes the new version of what a transfer brought: a whole zone (RFC 5936, section 2.2), or the steps from have
// (RFC 1995, section 4).
func assemble(have, got []dns.RR) ([]dns.RR, error) {
	if len(got) < 2 || !sameSOA(got[0], got[len(got)-1]) {
		return nil, fmt.Errorf("a transfer of %d records that does not end with the SOA that it begins with", len(got))
	}
	got = got[:len(got)-1]
	if have == nil || len(got) < 2 || got[1].Header().Rrtype != dns.TypeSOA {
		if slices.ContainsFunc(got[1:], func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }) {
			return nil, errors.New("a SOA within the zone")
		}
		return got, nil
	}
	at := have[0]
	records := map[string]dns.RR{}
	for _, rr := range have[1:] {
		records[rr.String()] = rr
	}
	removing := false
	for _, rr := range got[1:] {
		switch key := rr.String(); {
		case rr.Header().Rrtype == dns.TypeSOA:
			if removing = !removing; removing && !sameSOA(at, rr) {
				return nil, fmt.Errorf("a step from serial %d, at %d", rr.(*dns.SOA).Serial, at.(*dns.SOA).Serial)
			}
			at = rr
		case removing && records[key] == nil:
			return nil, fmt.Errorf("%s goes, and was not there", key)
		case removing:
			delete(records, key)
		default:
			records[key] = rr
		}
	}
	if !sameSOA(at, got[0]) {
		return nil, fmt.Errorf("the steps end at serial %d", at.(*dns.SOA).Serial)
	}
	all := []dns.RR{at}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		all = append(all, records[key])
	}
	return all, nil
}

func sameSOA(a, b dns.RR) bool {
	x, ok := a.(*dns.SOA)
	y, also := b.(*dns.SOA)
	return ok && also && x.Serial == y.Serial
}
