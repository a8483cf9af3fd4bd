package steer

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/cespare/xxhash/v2"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/zones"
)

// MaxAnswers is the most regions in one answer: eight regions of a few addresses
// each fit a UDP answer of 1232 bytes.
const MaxAnswers = 8

// The client networks that regions of a group are shared among. A resolver sends at
// most /24 and /56 (RFC 7871, section 11.1); a site of IPv6 has a /48.
const (
	shareBits4 = 24
	shareBits6 = 48
)

// A Pick is what a service answers to one client.
type Pick struct {
	Sets     [MaxAnswers]*zones.RRset // the regions' records of the asked type, or CNAME; nil: the region has none
	Members  [MaxAnswers]uint16       // the regions, as positions in Service.Members
	N        int                      // how many of these hold; at least 1
	Scope    int                      // the widest prefix around the client with this answer, in bits of its address family
	FailOpen bool                     // no region can answer: these stand in as if they could
	Negative *zones.RRset             // denies the type if none of Sets is there; nil: as the zone does, whatever the regions' health
}

// choice is one group of regions with all that a pick among them needs.
type choice struct {
	group
	seeds   []uint64  // by position in group.members
	weights []float64 // effective capacity, above 0
	sets    []*zones.RRset

	negative *zones.RRset // of a Pick
}

// face is how a service answers queries for one family of endpoints.
type face struct {
	network *geo.Partition // network -> class; nil: class 0 for all
	choices []choice       // by class
}

// Pick picks the regions that answer a client: a weighted rendezvous hash of the
// client's network among the regions of its group. The same network gets the same
// regions until a weight changes, and then only the networks that must move do.
// It does not allocate.
func (s *Snapshot) Pick(svc *zones.Service, qtype uint16, c geo.Client) Pick {
	f := &s.faces[svc.Index][familyOf(svc, qtype)]
	class, bits := f.lookup(c.Addr)
	ch := &f.choices[class]
	p := Pick{Scope: bits, FailOpen: ch.failOpen, Negative: ch.negative}
	if len(ch.members) == 1 {
		p.add(ch, 0)
		return p
	}
	network, share := shareNetwork(c.Addr)
	p.Scope = max(bits, share)
	ch.rendezvous(&p, network, svc.Answers)
	return p
}

func (f *face) lookup(client netip.Addr) (class uint32, bits int) {
	if f.network == nil {
		return 0, 0
	}
	return f.network.Lookup(client)
}

func (p *Pick) add(ch *choice, at int) {
	p.Sets[p.N], p.Members[p.N] = ch.sets[at], ch.members[at]
	p.N++
}

// rendezvous adds the n members with the lowest scores (Thaler and Ravishankar, 1998,
// in the weighted form): -ln(u)/weight, for u uniform in (0,1) by the hash of network and member.
func (ch *choice) rendezvous(p *Pick, network uint64, n int) {
	var best [MaxAnswers]struct {
		score float64
		at    int
	}
	found := 0
	for at, seed := range ch.seeds {
		score := -math.Log(uniform(network, seed)) / ch.weights[at]
		i := found
		for i > 0 && score < best[i-1].score {
			if i < len(best) {
				best[i] = best[i-1]
			}
			i--
		}
		if i < n {
			best[i].score, best[i].at = score, at
			found = min(found+1, n)
		}
	}
	for _, b := range best[:found] {
		p.add(ch, b.at)
	}
}

// uniform is a number in (0,1), the same on every director.
func uniform(network, seed uint64) float64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], network)
	binary.LittleEndian.PutUint64(b[8:], seed)
	return (float64(xxhash.Sum64(b[:])>>11) + 0.5) * 0x1p-53
}

// shareNetwork is the client's network as a number, unlike for IPv4 and IPv6, and its length in bits.
func shareNetwork(a netip.Addr) (network uint64, bits int) {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]) >> (32 - shareBits4)), shareBits4
	}
	b := a.As16()
	return 1<<63 | binary.BigEndian.Uint64(b[:])>>(64-shareBits6), shareBits6
}

// seed tells a member from all others, of this service and of others, alike on every director.
func seed(service, region string) uint64 {
	return xxhash.Sum64String(service + "\x00" + region)
}
