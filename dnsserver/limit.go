package dnsserver

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"github.com/miekg/dns"
)

// A class is a kind of reply. Each has a rate of its own, so that a flood of one kind leaves the others alone.
type class uint8

const (
	classData class = iota
	classDenial
	classReferral
	classError
	classes
)

func (c class) String() string { return [...]string{"positive", "negative", "referral", "error"}[c] }

// An action is what becomes of a reply.
type action uint8

const (
	send action = iota
	slip        // send what makes an honest asker come back by TCP, or with a cookie
	drop
	actions
)

func (a action) String() string { return [...]string{"sent", "slipped", "dropped"}[a] }

// The networks whose clients share a rate: who can forge or have one address of it has them all.
const (
	limitBits4 = 24
	limitBits6 = 56
)

// The bounds of a limiter: 512 KiB, whatever comes.
const (
	limitSets  = 1 << 14
	limitWays  = 4 // networks that may share a set before one is forgotten
	limitTries = 4 // of an update against those of other workers
)

// A limiter bounds what client networks are sent over UDP, so that forged queries make it no weapon. It is a table of
// virtual clocks (the generic cell rate algorithm, ITU-T I.371, annex A): each reply puts its network's clock
// forward by one interval, and who is a second ahead of time has to wait. The table has one size; where a set is full, the
// network that is least ahead is forgotten. It has no lock, and all workers share it.
type limiter struct {
	seed    maphash.Seed
	cells   [limitSets][limitWays]atomic.Uint64 // cellTag bits of the hash, then the clock in microseconds
	slips   atomic.Uint64                       // replies over the rate
	counted [classes][actions]atomic.Uint64     // without those that were sent
}

const (
	clockBits = 40 // 12 days until it goes over
	clockMask = 1<<clockBits - 1
	second    = 1e6 // in microseconds
)

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed()} }

// allow tells if one more reply of a class may go to a network at now, in microseconds since any time, at a rate of rate
// replies a second.
func (l *limiter) allow(source netip.Addr, c class, rate int, now uint64) bool {
	h := l.hash(source, c)
	set := &l.cells[h%limitSets]
	tag := h &^ clockMask
	interval := max(second/uint64(rate), 1)
	for range limitTries {
		cell, old := choose(set, tag, now)
		ahead := uint64(0)
		if old&^clockMask == tag {
			ahead = aheadOf(old, now)
		}
		if ahead+interval > second {
			return false
		}
		if cell.CompareAndSwap(old, tag|(now+ahead+interval)&clockMask) {
			return true
		}
	}
	return true // many replies at once: those that lose the race are not worth more tries
}

// choose finds the cell of a tag, or the one to forget.
func choose(set *[limitWays]atomic.Uint64, tag, now uint64) (cell *atomic.Uint64, value uint64) {
	least := uint64(second + 1)
	for i := range set {
		v := set[i].Load()
		if v&^clockMask == tag {
			return &set[i], v
		}
		if ahead := aheadOf(v, now); ahead < least {
			cell, value, least = &set[i], v, ahead
		}
	}
	return cell, value
}

// aheadOf is how far a clock is ahead of now: 0 for one that is behind, or farther than any can be, since the system's
// clock was set.
func aheadOf(cell, now uint64) uint64 {
	if ahead := (cell - now) & clockMask; ahead <= second {
		return ahead
	}
	return 0
}

func (l *limiter) hash(source netip.Addr, c class) uint64 {
	var b [9]byte
	if source.Is4() {
		a := source.As4()
		copy(b[:], a[:limitBits4/8])
		b[7] = 1 // no IPv6 network has it: it ends before
	} else {
		a := source.As16()
		copy(b[:], a[:limitBits6/8])
	}
	b[8] = byte(c)
	return maphash.Bytes(l.seed, b[:])
}

// limit tells what becomes of the reply of a class to the query v.
func (s *Scene) limit(t Transport, v *query, source netip.Addr, c class) action {
	rate := s.Settings.rate
	if s.Limiter == nil || t != UDP || rate == 0 || v.vouched || s.Settings.exempt.Contains(source) {
		return send
	}
	if s.Limiter.allow(source, c, rate, uint64(s.Now.UnixMicro())) {
		return send
	}
	a := drop
	if n := s.Limiter.slips.Add(1); s.Settings.slip > 0 && n%uint64(s.Settings.slip) == 0 {
		a = slip
	}
	s.Limiter.counted[c][a].Add(1)
	return a
}

// slipRcode is the rcode of a reply that slips: with a cookie that is not ours, the right one tells the asker how to come
// back (RFC 7873, section 5.2.3); else TC does.
func (v *query) slipRcode() int {
	if v.cookie != nil {
		return dns.RcodeBadCookie
	}
	return dns.RcodeSuccess
}

// classOf is the class of a reply with an rcode, as it is without limits.
func classOf(rcode int, answers, aa bool) class {
	switch {
	case rcode == dns.RcodeNameError, rcode == dns.RcodeSuccess && aa && !answers:
		return classDenial
	case rcode == dns.RcodeSuccess && !answers:
		return classReferral
	case rcode == dns.RcodeSuccess, rcode == dns.RcodeYXDomain:
		return classData
	}
	return classError
}
