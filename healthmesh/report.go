package healthmesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The bounds of a report. A full part with the longest names takes maxReport bytes, which leaves room in memberlist's
// packets of 1400 bytes for its headers, the longest label, the encryption's nonce and tag, and a signature to come.
const (
	maxName          = 128                         // bytes of a node's name: a region, a dash and a host name
	maxRegionName    = 63                          // bytes of a region's name: a DNS label
	endpointsPerPart = 72                          // endpoints in one part of a report
	maxParts         = 64                          // parts of one report
	maxEndpoints     = endpointsPerPart * maxParts // endpoints that one agent can report
	endpointBytes    = 8 + 1 + 1 + 2               // id, state, reason and its detail
	headBytes        = 1 + 1 + 8 + 8 + 1 + 1 + 16  // version, flags, incarnation, sequence, part, parts, capacity and load
	maxReport        = headBytes + 1 + maxName + 1 + maxRegionName + 2 + endpointsPerPart*endpointBytes
)

// reportVersion is the first byte of a report; others are refused.
const reportVersion = 1

// The flags of a report.
const (
	flagLeaving = 1 << iota
	flagLoad
	flagsKnown = flagLeaving | flagLoad
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
	Part, Parts    uint8 // Part counts from 0
	Leaving        bool  // the agent's last report of this life
	Capacity, Load float64
	HasLoad        bool
	Endpoints      []reported // ascending by ID
}

// reported is one endpoint in a report.
type reported struct {
	ID     EndpointID
	State  State
	Reason reason
}

// split makes the report of a status: as many parts as its endpoints need, at least one. Endpoints past
// maxEndpoints are left out; the caller has refused them before.
func split(r report, s Status) []report {
	all := make([]reported, 0, len(s.Endpoints))
	for id, e := range s.Endpoints {
		all = append(all, reported{ID: id, State: e.State, Reason: parseReason(e.Reason)})
	}
	slices.SortFunc(all, func(a, b reported) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	all = all[:min(len(all), maxEndpoints)]
	r.Capacity, r.HasLoad = amount(s.Capacity), s.HasLoad
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
	b = append(b, reportVersion, flags)
	b = binary.BigEndian.AppendUint64(b, r.Incarnation)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = append(b, r.Part, r.Parts)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(r.Capacity))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(r.Load))
	b = append(append(b, byte(len(r.Agent))), r.Agent...)
	b = append(append(b, byte(len(r.Region))), r.Region...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Endpoints)))
	for _, e := range r.Endpoints {
		b = binary.BigEndian.AppendUint64(b, uint64(e.ID))
		b = append(b, byte(e.State), byte(e.Reason.code))
		b = binary.BigEndian.AppendUint16(b, e.Reason.detail)
	}
	return b
}

// decodeReport reads a report. It accepts what encode writes and nothing else: decode and encode are each other's inverse.
func decodeReport(b []byte) (report, error) {
	if len(b) > maxReport {
		return report{}, fmt.Errorf("report of %d bytes, at most %d are accepted", len(b), maxReport)
	}
	d := decoder{b: b}
	if v := d.uint8(); v != reportVersion {
		return report{}, fmt.Errorf("report of version %d, only %d is known", v, reportVersion)
	}
	var r report
	flags := d.uint8()
	r.Leaving, r.HasLoad = flags&flagLeaving != 0, flags&flagLoad != 0
	r.Incarnation, r.Sequence = d.uint64(), d.uint64()
	r.Part, r.Parts = d.uint8(), d.uint8()
	r.Capacity, r.Load = d.amount(), d.amount()
	r.Agent, r.Region = d.name(maxName), d.name(maxRegionName)
	n := int(d.uint16())
	if d.err == nil && (n > endpointsPerPart || n*endpointBytes != len(d.b)) {
		return report{}, fmt.Errorf("report of %d endpoints in %d bytes", n, len(d.b))
	}
	for i := 0; d.err == nil && i < n; i++ {
		e := reported{EndpointID(d.uint64()), State(d.uint8()), reason{reasonCode(d.uint8()), d.uint16()}}
		if e.State > Down || !e.Reason.valid() || i > 0 && e.ID <= r.Endpoints[i-1].ID {
			return report{}, fmt.Errorf("report with endpoint %x in state %d for reason %v", e.ID, e.State, e.Reason)
		}
		r.Endpoints = append(r.Endpoints, e)
	}
	switch {
	case d.err != nil:
		return report{}, d.err
	case flags&^flagsKnown != 0 || !r.HasLoad && r.Load != 0:
		return report{}, fmt.Errorf("report with flags %#x and load %v", flags, r.Load)
	case r.Parts > maxParts || r.Part >= r.Parts:
		return report{}, fmt.Errorf("part %d of %d of a report", r.Part, r.Parts)
	}
	return r, nil
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
