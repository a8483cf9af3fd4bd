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

	family family // that was asked for
}

// choice is one chain of regions with all that a pick among them needs, each by position in chain.members.
type choice struct {
	chain
	seeds   []uint64
	weights []float64 // effective capacity, above 0
	admits  []float64 // the part of its networks that the region takes, 0 to 1
	sets    []*zones.RRset

	negative *zones.RRset // of a Pick
}

// face is how a service answers queries for one family of endpoints.
type face struct {
	network *geo.Partition // network -> class; nil: class 0 for all
	choices []choice       // by class
}

// Pick picks the regions that answer a client: a weighted rendezvous hash of the
// client's network among the regions of its group that do not refuse it, else of the next group in rank order. The same network gets
// the same regions until a weight or what a region admits changes, and then only the networks that must move do.
// It does not allocate.
func (s *Snapshot) Pick(svc *zones.Service, qtype uint16, c geo.Client) Pick {
	asked := familyOf(svc, qtype)
	f := &s.faces[svc.Index][asked]
	class, bits := f.lookup(c.Addr)
	ch := &f.choices[class]
	p := Pick{Scope: bits, FailOpen: ch.failOpen, Negative: ch.negative, family: asked}
	if len(ch.members) == 1 {
		p.add(ch, 0)
		return p
	}
	network, share := shareNetwork(c.Addr)
	p.Scope = max(bits, share)
	ch.pick(&p, network, svc.Answers)
	return p
}

// pick adds up to n members of the first group that has any that take the network. If all of the chain refuse it, nobody is helped
// by that, and it is shared as if none did.
func (ch *choice) pick(p *Pick, network uint64, n int) {
	lo := 0
	for _, hi := range ch.ends {
		if ch.rendezvous(p, network, n, lo, hi, true); p.N > 0 {
			return
		}
		lo = hi
	}
	ch.rendezvous(p, network, n, 0, ch.ends[0], false)
}

// refuses tells if a region refuses the network. It is a hash of both, independent of the one that shares a group, and at any
// moment the networks that a region takes are among those that it takes when it admits more.
func refuses(network, seed uint64, admit float64) bool {
	return admit < 1 && uniform(network, ^seed) >= admit
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

// rendezvous adds the n members from lo to hi with the lowest scores (Thaler and Ravishankar, 1998,
// in the weighted form): -ln(u)/weight, for u uniform in (0,1) by the hash of network and member; those that may refuse the network
// only if they take it.
func (ch *choice) rendezvous(p *Pick, network uint64, n, lo, hi int, mayRefuse bool) {
	var best [MaxAnswers]struct {
		score float64
		at    int
	}
	found := 0
	for at := lo; at < hi; at++ {
		if mayRefuse && refuses(network, ch.seeds[at], ch.admits[at]) {
			continue
		}
		score := -math.Log(uniform(network, ch.seeds[at])) / ch.weights[at]
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
