package healthmesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// The bounds of a report. A full part with the longest names and a signature takes maxReport bytes, which leaves room in memberlist's
// packets of 1400 bytes for its headers, the longest label, and the encryption's nonce and tag.
const (
	maxName          = 128                                // bytes of a node's name: a region, a dash and a host name
	maxRegionName    = 63                                 // bytes of a region's name: a DNS label
	endpointsPerPart = 48                                 // endpoints in one part of a report
	maxParts         = 128                                // parts of one report
	maxEndpoints     = endpointsPerPart * maxParts        // endpoints that one agent can report, its own and those it witnesses
	endpointBytes    = 8 + 1 + 1 + 2 + 5                  // id, state, reason and its detail, since
	headBytes        = 1 + 1 + 8 + 8 + 8 + 1 + 1 + 16 + 4 // version, flags, incarnation, sequence, elapsed, part, parts, capacity and load, suppressed
	maxBodyBytes     = headBytes + 1 + maxName + 1 + maxRegionName + 2 + endpointsPerPart*endpointBytes
	maxReport        = maxBodyBytes + signatureBytes

	// No life has larger numbers: milliseconds to the year 10889, and a report each nanosecond for a century. What claims more would
	// leave no number to its successors.
	maxIncarnation = 1 << 48
	maxSequence    = 1 << 62
	maxElapsed     = 1<<40 - 1 // 34 years in milliseconds
)

// reportVersion is the first byte of a report; others are refused.
const reportVersion = 2

// The flags of a report.
const (
	flagLeaving = 1 << iota
	flagLoad
	flagStale
	flagsKnown = flagLeaving | flagLoad | flagStale
)

// A numbering orders the reports of one agent: the incarnation counts its lives, the sequence the reports of one life.
type numbering struct{ Incarnation, Sequence uint64 }

func (n numbering) after(o numbering) bool {
	return n.Incarnation > o.Incarnation || n.Incarnation == o.Incarnation && n.Sequence > o.Sequence
}

// A report is one part of what one agent says of its region. All parts of a report have one number and repeat
// all but the endpoints, so that any of them tells that the agent lives.
type report struct {
	Agent, Region string
	numbering
	Elapsed        uint64 // of this life, by the agent's monotonic clock, in milliseconds
	Part, Parts    uint8  // Part counts from 0
	Leaving        bool   // the agent's last report of this life
	Capacity, Load float64
	HasLoad        bool
	LoadStale      bool       // Load is the last that could be read
	Suppressed     uint32     // flips of endpoints that were kept from the state, in this life
	Endpoints      []reported // ascending by ID; of the agent's region, and of others that it witnesses
}

// stamp is when something came to be that is so since a time of the life of the reporter.
func (n numbering) stamp(since uint64) Stamp { return Stamp(n.Incarnation + since) }

// reported is one endpoint in a report.
type reported struct {
	ID     EndpointID
	State  State
	Reason reason
	Since  uint64 // when State became so, in milliseconds of the agent's life
}

// split makes the report of a status: as many parts as its endpoints need, at least one. Endpoints past
// maxEndpoints are left out; the caller has refused them before. born is when the life began that r has the number of.
func split(r report, s Status, born time.Time) []report {
	all := make([]reported, 0, len(s.Endpoints))
	for id, e := range s.Endpoints {
		since := uint64(min(max(e.At.Sub(born).Milliseconds(), 0), int64(r.Elapsed)))
		all = append(all, reported{ID: id, State: e.State, Reason: parseReason(e.Reason), Since: since})
	}
	slices.SortFunc(all, func(a, b reported) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	all = all[:min(len(all), maxEndpoints)]
	r.Capacity, r.HasLoad, r.LoadStale, r.Suppressed = amount(s.Capacity), s.HasLoad, s.HasLoad && s.LoadStale, s.Suppressed
	if s.HasLoad {
		r.Load = boundedLoad(amount(s.Load), r.Capacity)
	}
	chunks := slices.Collect(slices.Chunk(all, endpointsPerPart))
	if len(chunks) == 0 {
		chunks = [][]reported{nil}
	}
	parts := make([]report, len(chunks))
	for i, c := range chunks {
		parts[i] = r
		parts[i].Part, parts[i].Parts, parts[i].Endpoints = uint8(i), uint8(len(chunks)), c
	}
	return parts
}

// amount makes a capacity or load one that a report may carry: finite and not negative.
func amount(f float64) float64 {
	if f > 0 && !math.IsInf(f, 0) {
		return f
	}
	return 0
}

// maxOverload is how many times its capacity a region's load can be: what is more is a fault of its source, and no
// share that follows from it would differ.
const maxOverload = 10

// boundedLoad is the load that is believed of a region. A region that states no capacity has no bound.
func boundedLoad(load, capacity float64) float64 {
	if capacity <= 0 {
		return load
	}
	return min(load, maxOverload*capacity)
}

// encode appends the report to b: all fields of fixed width, big-endian, so that a report has exactly one form.
func (r report) encode(b []byte) []byte {
	var flags byte
	if r.Leaving {
		flags |= flagLeaving
	}
	if r.HasLoad {
		flags |= flagLoad
	}
	if r.LoadStale {
		flags |= flagStale
	}
	b = append(b, reportVersion, flags)
	b = binary.BigEndian.AppendUint64(b, r.Incarnation)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = binary.BigEndian.AppendUint64(b, r.Elapsed)
	b = append(b, r.Part, r.Parts)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(r.Capacity))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(r.Load))
	b = binary.BigEndian.AppendUint32(b, r.Suppressed)
	b = append(append(b, byte(len(r.Agent))), r.Agent...)
	b = append(append(b, byte(len(r.Region))), r.Region...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Endpoints)))
	for _, e := range r.Endpoints {
		b = binary.BigEndian.AppendUint64(b, uint64(e.ID))
		b = append(b, byte(e.State), byte(e.Reason.code))
		b = binary.BigEndian.AppendUint16(b, e.Reason.detail)
		b = append(b, byte(e.Since>>32))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Since))
	}
	return b
}

// decodeReport reads a report, and returns what of b is signed and the signature, which is empty or of signatureBytes. It accepts
// what encode writes and nothing else: decode and encode are each other's inverse.
func decodeReport(b []byte) (r report, body, signature []byte, err error) {
	if len(b) > maxReport {
		return report{}, nil, nil, fmt.Errorf("report of %d bytes, at most %d are accepted", len(b), maxReport)
	}
	d := decoder{b: b}
	if v := d.uint8(); v != reportVersion {
		return report{}, nil, nil, fmt.Errorf("report of version %d, only %d is known", v, reportVersion)
	}
	flags := d.uint8()
	r.Leaving, r.HasLoad, r.LoadStale = flags&flagLeaving != 0, flags&flagLoad != 0, flags&flagStale != 0
	r.Incarnation, r.Sequence, r.Elapsed = d.uint64(), d.uint64(), d.uint64()
	r.Part, r.Parts = d.uint8(), d.uint8()
	r.Capacity, r.Load, r.Suppressed = d.amount(), d.amount(), d.uint32()
	r.Agent, r.Region = d.name(maxName), d.name(maxRegionName)
	n := int(d.uint16())
	rest := len(d.b) - n*endpointBytes
	if d.err == nil && (n > endpointsPerPart || rest != 0 && rest != signatureBytes) {
		return report{}, nil, nil, fmt.Errorf("report of %d endpoints in %d bytes", n, len(d.b))
	}
	if d.err != nil {
		return report{}, nil, nil, d.err
	}
	for i := range n {
		e := reported{EndpointID(d.uint64()), State(d.uint8()), reason{reasonCode(d.uint8()), d.uint16()}, uint64(d.uint8())<<32 | uint64(d.uint32())}
		if e.State > Down || !e.Reason.valid() || e.Since > r.Elapsed || i > 0 && e.ID <= r.Endpoints[i-1].ID {
			return report{}, nil, nil, fmt.Errorf("report with endpoint %x in state %d for reason %v since %d ms", e.ID, e.State, e.Reason, e.Since)
		}
		r.Endpoints = append(r.Endpoints, e)
	}
	body, signature = b[:len(b)-rest], b[len(b)-rest:]
	switch {
	case flags&^flagsKnown != 0 || !r.HasLoad && (r.Load != 0 || r.LoadStale):
		return report{}, nil, nil, fmt.Errorf("report with flags %#x and load %v", flags, r.Load)
	case r.Parts > maxParts || r.Part >= r.Parts:
		return report{}, nil, nil, fmt.Errorf("part %d of %d of a report", r.Part, r.Parts)
	case r.Incarnation > maxIncarnation || r.Sequence > maxSequence || r.Elapsed > maxElapsed:
		return report{}, nil, nil, fmt.Errorf("report numbered (%d, %d), %d ms old", r.Incarnation, r.Sequence, r.Elapsed)
	}
	return r, body, signature, nil
}

var errShort = errors.New("message ends early")

// decoder reads fields off the front of b; after the first error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) bytes(n int) []byte {
	if d.err != nil || len(d.b) < n {
		if d.err == nil {
			d.err = errShort
		}
		return make([]byte, min(n, 8))
	}
	field := d.b[:n]
	d.b = d.b[n:]
	return field
}

func (d *decoder) uint8() uint8   { return d.bytes(1)[0] }
func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.bytes(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.bytes(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.bytes(8)) }

// amount reads a number that is finite and not negative; a negative zero would have two forms.
func (d *decoder) amount() float64 {
	f := math.Float64frombits(d.uint64())
	if d.err == nil && (math.IsNaN(f) || math.IsInf(f, 0) || math.Signbit(f)) {
		d.err = fmt.Errorf("amount %v, only finite ones from 0 are accepted", f)
		return 0
	}
	return f
}

// name reads a length and as many bytes of printable ASCII.
func (d *decoder) name(longest int) string {
	n := int(d.uint8())
	s := string(d.bytes(n))
	if d.err == nil && !validName(s, longest) {
		d.err = fmt.Errorf("name %q, 1 to %d printable characters are accepted", s, longest)
	}
	return s
}

// validName says whether s can name a node or region: printable ASCII, no spaces, since names stand in logs and tables.
func validName(s string, longest int) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
