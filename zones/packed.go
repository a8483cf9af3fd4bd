package zones

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

const messageHead = 12 // octets before a message's first record, if it has no question

// maxHead is the most octets before the records of a message: its header and the longest question.
const maxHead = 12 + 259

// maxPacked is the most octets in one Packed: a message of 65535 octets less what is
// before its records and room for an OPT record (254). Every offset in a Packed thus
// fits a Fixup.
const maxPacked = 65535 - maxHead - 254

// Packed is a run of resource records in wire format, to be copied behind a
// question. Its names are compressed against that question: an owner equal to the
// query name is the pointer 0xC00C; a name that ends as the question does, in the
// zone's name or in what of the query name is known, ends in a pointer that Append
// mends, since where the zone's name starts depends on the query. So does a name that
// ends as one before it in this run, or in those that always stand right before it.
type Packed struct {
	Wire  []byte
	Count uint16  // records
	Fixes []Fixup // ascending by At
}

// A Fixup is a two-byte pointer in Packed.Wire at At that points Delta bytes after
// the start of the zone's name in the question (negative for a name below the zone's),
// or after the start of Wire if it is Own (negative for a name in a run before it).
type Fixup struct {
	At    uint16
	Delta int16
	Own   bool
}

// MaxPointer is the last octet of a message that a pointer reaches (RFC 1035, section 4.1.4). A longer message is not made
// of what is Packed.
const MaxPointer = 1<<14 - 1

// Pack packs rrs as seen by a question whose name is owner and whose zone is origin;
// both are absolute and lower case. A wildcard as owner stands for every query name
// that it matches. Where owner is "" (referrals and denials: the query name is not
// known) only names at the origin or at cut, a name between the query name and the
// origin, are compressed; cut may be "". Names in rdata are compressed for the types
// of RFC 1035 alone (RFC 3597, section 4). TTLs are those of the records.
func Pack(rrs []dns.RR, owner, cut, origin string) (Packed, error) {
	k, err := newPacker(owner, cut, origin)
	if err != nil {
		return Packed{}, err
	}
	return k.pack(rrs)
}

// pack packs records to stand right behind those that it packed before.
func (k *packer) pack(rrs []dns.RR) (Packed, error) {
	if k.before += len(k.out.Wire); k.before > MaxPointer {
		k.names = nil // this run stands in no message that is made of what is packed
	}
	size := 0
	for _, rr := range rrs {
		size += dns.Len(rr)
	}
	k.out = Packed{Wire: make([]byte, 0, min(size, maxPacked))}
	var m dns.Msg // it packs a record without a change to it: other sets may have it, too
	var room [512]byte
	for i, rr := range rrs {
		m.Answer = rrs[i : i+1]
		raw, err := m.PackBuffer(room[:])
		if err != nil {
			return Packed{}, fmt.Errorf("packing %s: %w", rr.Header().Name, err)
		}
		if err := k.record(raw[messageHead:]); err != nil {
			return Packed{}, fmt.Errorf("packing %s: %w", rr.Header().Name, err)
		}
	}
	return k.out, nil
}

// Append appends the records to b, where a message of at most MaxPointer octets starts at start whose question's name has its
// zone's part at offset origin, and returns the longer slice. It does not allocate if b has room.
func (p *Packed) Append(b []byte, start, origin int) []byte {
	b0 := len(b)
	b = append(b, p.Wire...)
	for _, f := range p.Fixes {
		to := origin + int(f.Delta)
		if f.Own {
			to = b0 - start + int(f.Delta)
		}
		b[b0+int(f.At)] = 0xC0 | byte(to>>8)
		b[b0+int(f.At)+1] = byte(to)
	}
	return b
}

// NewRRset makes an RRset of records of one name, type and TTL, packed for a question
// as Pack says. It keeps rrs.
func NewRRset(rrs []dns.RR, owner, cut, origin string) (*RRset, error) {
	k, err := newPacker(owner, cut, origin)
	if err != nil {
		return nil, err
	}
	return k.rrset(rrs)
}

func (k *packer) rrset(rrs []dns.RR) (*RRset, error) {
	if len(rrs) == 0 {
		return nil, errors.New("an RRset without records")
	}
	p, err := k.pack(rrs)
	if err != nil {
		return nil, err
	}
	h := rrs[0].Header()
	return &RRset{Type: h.Rrtype, TTL: h.Ttl, RRs: rrs, Packed: p}, nil
}

// A packer compresses records against what is known of a question, and against each other.
type packer struct {
	out    Packed
	before int            // octets of the runs before out
	names  map[string]int // where names that were written start, from the first run's start on; by the name, in its case
	owner  string         // the query name in wire format; "" if not known
	known  string         // the longest known suffix of the query name
	starts [256]bool      // where known's labels start
	origin int            // where the zone's name starts in known
}

func newPacker(owner, cut, origin string) (*packer, error) {
	k := &packer{}
	suffix := origin
	if cut != "" {
		suffix = cut
	}
	if owner != "" {
		suffix = owner
	}
	zone, err := wireName(origin)
	if err != nil {
		return nil, err
	}
	if k.known, err = wireName(suffix); err != nil {
		return nil, err
	}
	if owner != "" {
		k.owner = k.known
	}
	if owner != "" && isWildcard(k.known) {
		k.known = parent(k.known)
	}
	k.origin = len(k.known) - len(zone)
	for i := 0; k.known[i] != 0; i += 1 + int(k.known[i]) {
		k.starts[i] = true
	}
	if !isWithin(k.known, zone) {
		return nil, fmt.Errorf("%s is not within %s", suffix, origin)
	}
	return k, nil
}

// rdataNames says how many octets precede the names of a type's rdata and how many
// names there are, for the types whose names may be compressed.
var rdataNames = map[uint16]struct{ skip, names int }{
	dns.TypeNS: {0, 1}, dns.TypeMD: {0, 1}, dns.TypeMF: {0, 1}, dns.TypeCNAME: {0, 1}, dns.TypeSOA: {0, 2},
	dns.TypeMB: {0, 1}, dns.TypeMG: {0, 1}, dns.TypeMR: {0, 1}, dns.TypePTR: {0, 1}, dns.TypeMINFO: {0, 2}, dns.TypeMX: {2, 1},
}

var errShort = errors.New("record is cut short")

// record adds one record, given uncompressed.
func (k *packer) record(raw []byte) error {
	w := &k.out.Wire
	n := nameLen(raw)
	if n == 0 || len(raw) < n+10 {
		return errShort
	}
	if k.owner != "" && equalNames(raw[:n], k.owner) {
		*w = append(*w, 0xC0, 12)
	} else {
		k.name(raw[:n])
	}
	head, rdata := raw[n:n+10], raw[n+10:]
	*w = append(*w, head...)
	start := len(*w)
	t := rdataNames[binary.BigEndian.Uint16(head)]
	if len(rdata) < t.skip {
		return errShort
	}
	*w = append(*w, rdata[:t.skip]...)
	rdata = rdata[t.skip:]
	for range t.names {
		n := nameLen(rdata)
		if n == 0 {
			return errShort
		}
		k.name(rdata[:n])
		rdata = rdata[n:]
	}
	*w = append(*w, rdata...)
	if len(*w) > maxPacked {
		return fmt.Errorf("the records together exceed %d octets, the most that a message holds", maxPacked)
	}
	binary.BigEndian.PutUint16((*w)[start-2:], uint16(len(*w)-start))
	k.out.Count++
	return nil
}

// name adds a name, its longest suffix that stands in the question or was written before as a pointer.
func (k *packer) name(name []byte) {
	i := 0
	for name[i] != 0 {
		if k.stands(name[i:]) {
			k.pointer(name[:i], len(k.known)-len(name[i:])-k.origin, false)
			return
		}
		if at, ok := k.names[string(name[i:])]; ok {
			k.pointer(name[:i], at-k.before, true)
			return
		}
		k.remember(name[i:], k.before+len(k.out.Wire)+i)
		i += 1 + int(name[i])
	}
	k.out.Wire = append(k.out.Wire, name...)
}

// remember notes where a name starts, if a pointer behind the longest question could reach it.
func (k *packer) remember(name []byte, at int) {
	if at > MaxPointer-maxHead {
		return
	}
	if k.names == nil {
		k.names = map[string]int{}
	}
	k.names[string(name)] = at
}

// pointer adds labels and a pointer. What does not fit a message is refused when the record is whole.
func (k *packer) pointer(labels []byte, delta int, own bool) {
	k.out.Wire = append(k.out.Wire, labels...)
	if at := len(k.out.Wire); at <= maxPacked {
		k.out.Fixes = append(k.out.Fixes, Fixup{At: uint16(at), Delta: int16(delta), Own: own})
	}
	k.out.Wire = append(k.out.Wire, 0xC0, 0)
}

// stands tells if name is a suffix of what is known of the question.
func (k *packer) stands(name []byte) bool {
	at := len(k.known) - len(name)
	return at >= 0 && k.starts[at] && equalNames(name, k.known[at:])
}
