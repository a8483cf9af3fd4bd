package dnsserver

import (
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// maxGone is the most counters of each kind that a meter keeps for names that a reload took away: enough for a large
// zone to be taken out and put back without its counters going backwards.
const maxGone = 1024

// Query types are counted by name, those that are rare together: the asker chooses them, and must not fill a table.
var countedTypes = [...]uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS,
	dns.TypeSVCB, dns.TypeCAA, dns.TypeDS, dns.TypeDNSKEY, dns.TypePTR, dns.TypeANY,
}

const otherType = len(countedTypes)

// rcodes is how many rcodes are counted: BADCOOKIE is the largest that Answer gives.
const rcodes = dns.RcodeBadCookie + 1

// The rcodes that are counted for each zone, those that are rare together.
var zoneRcodes = [...]int{
	dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeYXDomain, dns.RcodeNotAuth, dns.RcodeBadCookie,
}

const otherRcode = len(zoneRcodes)

// A Meter counts what one worker answered; it is written by that worker alone, and read by Each from anywhere. The
// zero Meter is ready; a nil one counts nothing.
//
// What the asker chooses, types and rcodes and transports, is counted over all zones, and for each zone rcodes alone: there may
// be 100,000 of these, and each costs 64 octets here and a few series of metrics, whatever is asked. Counters go by name, so that
// they survive reloads; a table for the set in use finds them by position.
type Meter struct {
	queries  queryCounts
	set      *zones.Set      // that zones and services are for; the worker's own, as they are
	zones    []zoneCounts    // by Zone.Index
	services []serviceCounts // by Service.Index
	outside  zoneCounts      // queries in no zone

	mu       sync.Mutex             // guards what changes with the set
	gone     map[string]*zoneCounts // of zones that are not in the set
	answers  map[answerKey]*atomic.Uint64
	failOpen map[string]*atomic.Uint64
}

type queryCounts [len(countedTypes) + 1][rcodes][transports]atomic.Uint64

type zoneCounts [len(zoneRcodes) + 1]atomic.Uint64

type answerKey struct{ service, region string }

type serviceCounts struct {
	answers  []*atomic.Uint64 // by position in Service.Members
	failOpen *atomic.Uint64
}

// query counts a query and its reply's rcode; z is nil if it is in no zone.
func (m *Meter) query(set *zones.Set, z *zones.Zone, qtype uint16, rcode int, t Transport) {
	if m == nil {
		return
	}
	m.use(set)
	c := &m.outside
	if z != nil {
		c = &m.zones[z.Index]
	}
	c[rcodeIndex(rcode)].Add(1)
	m.queries[typeIndex(qtype)][rcode][t].Add(1)
}

// answer counts the regions in an answer, if a service gave it.
func (m *Meter) answer(set *zones.Set, r *result) {
	if m == nil || r.service == nil {
		return
	}
	m.use(set)
	c := &m.services[r.service.Index]
	for i := range r.pick.N {
		if r.pick.Sets[i] != nil {
			c.answers[r.pick.Members[i]].Add(1)
		}
	}
	if r.pick.FailOpen {
		c.failOpen.Add(1)
	}
}

func typeIndex(qtype uint16) int {
	for i, t := range countedTypes {
		if t == qtype {
			return i
		}
	}
	return otherType
}

func rcodeIndex(rcode int) int {
	for i, r := range zoneRcodes {
		if r == rcode {
			return i
		}
	}
	return otherRcode
}

// use makes the tables for a set, once after each reload.
func (m *Meter) use(set *zones.Set) {
	if m.set == set {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	had, answers, failOpen := m.byZone(), map[answerKey]*atomic.Uint64{}, map[string]*atomic.Uint64{}
	m.set, m.zones, m.services = set, make([]zoneCounts, len(set.Zones)), nil
	for i, z := range set.Zones {
		if c := had[z.Name]; c != nil {
			m.zones[i].take(c)
			delete(had, z.Name)
		}
	}
	for _, svc := range set.Services {
		c := serviceCounts{failOpen: counter(failOpen, m.failOpen, svc.Name)}
		for _, member := range svc.Members {
			key := answerKey{svc.Name, set.Regions[member.Region].Name}
			c.answers = append(c.answers, counter(answers, m.answers, key))
		}
		m.services = append(m.services, c)
	}
	m.gone = map[string]*zoneCounts{}
	for name, c := range had {
		if len(m.gone) == maxGone {
			break
		}
		m.gone[name] = new(zoneCounts) // c holds all of the table that it is in
		m.gone[name].take(c)
	}
	keepGone(answers, m.answers)
	keepGone(failOpen, m.failOpen)
	m.answers, m.failOpen = answers, failOpen
}

// byZone are the counters of all zones by name, also of those that are gone.
func (m *Meter) byZone() map[string]*zoneCounts {
	all := map[string]*zoneCounts{}
	for name, c := range m.gone {
		all[name] = c
	}
	for i := range m.zones {
		all[m.set.Zones[i].Name] = &m.zones[i]
	}
	return all
}

// take takes over the figures of other counters, which count no more.
func (c *zoneCounts) take(from *zoneCounts) {
	for i := range c {
		c[i].Store(from[i].Load())
	}
}

// counter puts the counter of a key into to: the one it had, or a new one.
func counter[K comparable, V any](to, from map[K]*V, key K) *V {
	c := from[key]
	if c == nil {
		c = new(V)
	}
	to[key] = c
	return c
}

// keepGone takes over up to maxGone of the counters that are not in use any more.
func keepGone[K comparable, V any](to, from map[K]*V) {
	kept := 0
	for key, c := range from {
		if to[key] == nil && kept < maxGone {
			to[key] = c
			kept++
		}
	}
}

// Each calls its arguments with every counter that is not zero: of queries by type, rcode and transport, of the same
// queries by zone and rcode, of regions in answers and of failing open. zone is "" for queries in none; zone, service and
// region are names, the first two absolute. It may be called from any goroutine.
func (m *Meter) Each(query func(qtype, rcode string, t Transport, n uint64), inZone func(zone, rcode string, n uint64), answer func(service, region string, n uint64), failOpen func(service string, n uint64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.queries {
		for j := range m.queries[i] {
			for t := range m.queries[i][j] {
				if n := m.queries[i][j][t].Load(); n > 0 {
					query(typeName(i), rcodeName(j), Transport(t), n)
				}
			}
		}
	}
	m.outside.each("", inZone)
	for zone, c := range m.byZone() {
		c.each(zone, inZone)
	}
	for key, c := range m.answers {
		if n := c.Load(); n > 0 {
			answer(key.service, key.region, n)
		}
	}
	for service, c := range m.failOpen {
		if n := c.Load(); n > 0 {
			failOpen(service, n)
		}
	}
}

func (c *zoneCounts) each(zone string, inZone func(zone, rcode string, n uint64)) {
	for i := range c {
		if n := c[i].Load(); n > 0 {
			rcode := "other"
			if i != otherRcode {
				rcode = rcodeName(zoneRcodes[i])
			}
			inZone(zone, rcode, n)
		}
	}
}

func typeName(i int) string {
	if i == otherType {
		return "other"
	}
	return dns.TypeToString[countedTypes[i]]
}

// rcodeName is an rcode's name. 16 has two; without TSIG keys it is BADVERS.
func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS"
	}
	return dns.RcodeToString[rcode]
}
