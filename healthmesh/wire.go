package healthmesh

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// What nodes send each other. A message is a kind and its body; it fits one packet:
//
//	kindReport  age in milliseconds (4 bytes), report
//	kindOrder   seal
//	kindRing    the mesh's keys: length (2 bytes), JSON, signature
//
// The age is the time since the report came to, or was made by, the node that sends it. It is outside of the report,
// which is passed on as its agent encoded it. A report that waited, in a queue or in a table, is as old as it is.
const (
	kindReport = 1
	kindOrder  = 2
	kindRing   = 3
)

// stateVersion is the first byte of what push/pull carries:
//
//	stateVersion, name of the sender
//	count (4 bytes), then each: age (4 bytes), length (2 bytes), report
//	seal, or nothing of a node whose orders nobody takes
const stateVersion = 2

// age is how old something that came at `at` is on the wire: milliseconds, as many as fit.
func age(at, now time.Time) uint32 {
	return uint32(min(max(now.Sub(at).Milliseconds(), 0), math.MaxUint32))
}

func reportMessage(p *part, now time.Time) []byte {
	b := make([]byte, 0, 1+4+len(p.raw))
	b = append(b, kindReport)
	b = binary.BigEndian.AppendUint32(b, age(p.at, now))
	return append(b, p.raw...)
}

func ordersMessage(seal []byte) []byte { return append([]byte{kindOrder}, seal...) }

// A message is what a packet or a push/pull holds, decoded. Bad counts the reports and orders that were not understood.
type message struct {
	from  string
	parts []*part
	seal  *seal // nil if there is none
	ring  []byte
	raw   []byte // of a packet, to be passed on
	bad   int
}

func (m *message) addReport(age uint32, raw []byte, now time.Time) {
	r, body, signature, err := decodeReport(raw)
	if err != nil {
		m.bad++
		return
	}
	m.parts = append(m.parts, &part{report: r, raw: raw, body: body, signature: signature, at: now.Add(-time.Duration(age) * time.Millisecond)})
}

func (m *message) addSeal(b []byte, now time.Time) error {
	s, err := unseal(b, now)
	m.seal = &s
	m.bad += s.bad
	return err
}

// decodeMessage reads a packet that came at now. The message keeps b.
func decodeMessage(b []byte, now time.Time) (m message, err error) {
	d := decoder{b: b}
	m.raw = b
	switch kind := d.uint8(); {
	case d.err != nil:
		return m, d.err
	case kind == kindReport:
		age := d.uint32()
		if d.err != nil {
			return m, d.err
		}
		m.addReport(age, d.b, now)
	case kind == kindOrder:
		return m, m.addSeal(d.b, now)
	case kind == kindRing:
		m.ring = d.b
	default:
		return m, fmt.Errorf("message of kind %d", kind)
	}
	return m, nil
}

// encodeState is the body of a push/pull: the whole table and the seal of all orders, if there is one.
func encodeState(from string, parts []*part, seal []byte, now time.Time) []byte {
	b := append([]byte{stateVersion, byte(len(from))}, from...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(parts)))
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, age(p.at, now))
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.raw)))
		b = append(b, p.raw...)
	}
	return append(b, seal...)
}

// decodeState reads a push/pull that came at now. Reports and orders that are not understood are left out and
// counted: one node of another version must not keep the others' from coming in. The message keeps b.
func decodeState(b []byte, now time.Time) (m message, err error) {
	d := decoder{b: b}
	if v := d.uint8(); v != stateVersion {
		return m, fmt.Errorf("state of version %d, only %d is known", v, stateVersion)
	}
	m.from = d.name(maxName)
	n := d.uint32()
	if n > maxReports {
		return m, fmt.Errorf("state of %d reports, at most %d are accepted", n, maxReports)
	}
	for i := uint32(0); i < n && d.err == nil; i++ {
		age := d.uint32()
		if raw := d.field(); d.err == nil {
			m.addReport(age, raw, now)
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = m.addSeal(d.b, now)
	}
	return m, d.err
}

// withRing puts the mesh's keys, nil if there are none, before the body of a push/pull.
func withRing(ring, state []byte) []byte {
	return append(append(binary.BigEndian.AppendUint16(nil, uint16(len(ring))), ring...), state...)
}

// decodeExchange reads what withRing made, as decodeState does.
func decodeExchange(b []byte, now time.Time) (m message, err error) {
	d := decoder{b: b}
	ring := d.field()
	if d.err != nil {
		return m, d.err
	}
	m, err = decodeState(d.b, now)
	m.ring = ring
	return m, err
}

// field reads a length of two bytes and as many bytes.
func (d *decoder) field() []byte {
	n := int(d.uint16())
	if d.err != nil || len(d.b) < n {
		d.err = errShort
		return nil
	}
	return d.bytes(n)
}
