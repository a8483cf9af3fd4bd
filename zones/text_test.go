package zones

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// packed is a record in wire format, by itself.
func packed(t *rapid.T, rr dns.RR) []byte {
	b := make([]byte, 1<<11)
	n, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil {
		t.Fatalf("%v does not pack: %v", rr, err)
	}
	return b[:n]
}

// Whatever record of whatever type comes over the wire is the same, octet for octet, when its copy has been written and read.
func TestTextReadsBackAsTheSameOctets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy.zone")
	types := append(slices.Sorted(maps.Keys(dns.TypeToRR)), 65280)
	odd := rapid.SampledFrom([]byte{0, 9, '\n', ' ', '"', '#', '$', '(', ')', ',', '.', '0', '3', ';', '=', '@', 'A', '\\', 'a', 127, 128, 255})
	octets := func(lo, hi int) *rapid.Generator[[]byte] {
		return rapid.SliceOfN(rapid.OneOf(odd, rapid.Byte()), lo, hi)
	}
	text := rapid.Map(octets(0, 255), func(b []byte) []byte { return append([]byte{byte(len(b))}, b...) })
	label := rapid.Map(octets(1, 20), func(b []byte) []byte { return append([]byte{byte(len(b))}, b...) })
	name := rapid.Map(rapid.SliceOfN(label, 0, 5), func(ls [][]byte) []byte { return append(slices.Concat(ls...), 0) })
	tag := rapid.Just([]byte("\x05issue"))
	type shape = []*rapid.Generator[[]byte]
	shapes := map[uint16]shape{
		dns.TypeA: {octets(4, 4)}, dns.TypeAAAA: {octets(16, 16)}, dns.TypeNS: {name}, dns.TypeCNAME: {name}, dns.TypeDNAME: {name}, dns.TypePTR: {name},
		dns.TypeSOA: {name, name, octets(20, 20)}, dns.TypeMX: {octets(2, 2), name}, dns.TypeSRV: {octets(6, 6), name}, dns.TypeTXT: {text, text},
		dns.TypeDS: {octets(5, 40)}, dns.TypeCAA: {octets(1, 1), tag, octets(0, 200)}, dns.TypeURI: {octets(4, 4), octets(1, 200)},
		dns.TypeX25: {text}, dns.TypeNULL: {octets(1, 200)}, 65280: {octets(1, 200)},
	}
	owner := rapid.OneOf(name, rapid.Just([]byte("\x02$x\x00")), rapid.Just([]byte("\x04$TTL\x00")))
	check := func(t *rapid.T, rrtype uint16) {
		ttl := rapid.SampledFrom([]uint32{0, 300, maxTTL, maxTTL + 1, 1<<32 - 1}).Draw(t, "ttl")
		raw := owner.Draw(t, "owner")
		head := len(raw)
		raw = binary.BigEndian.AppendUint16(raw, rrtype)
		raw = binary.BigEndian.AppendUint16(raw, dns.ClassINET)
		raw = binary.BigEndian.AppendUint32(raw, ttl)
		rdata, whole := []byte(nil), shapes[rrtype] != nil
		parts := shapes[rrtype]
		if !whole {
			parts = rapid.SliceOfN(rapid.SampledFrom([]*rapid.Generator[[]byte]{octets(1, 30), text, name, octets(4, 4), octets(1, 2)}), 0, 5).Draw(t, "parts")
		}
		for _, part := range parts {
			rdata = append(rdata, part.Draw(t, "rdata")...)
		}
		raw = binary.BigEndian.AppendUint16(raw, uint16(len(rdata)))
		raw = append(raw, rdata...)
		rr, n, err := dns.UnpackRR(raw, 0)
		if err != nil || n != len(raw) || rr.Header().Rdlength == 0 {
			return // no record of the type
		}
		FromWire(rr)
		r := &zoneReader{scratch: make([]byte, 1<<11)}
		if rr, err = r.accept(rr); err != nil {
			return
		}
		want := packed(t, rr)
		if whole { // of others, some that are cut short are taken
			if ttl > maxTTL {
				ttl = 0
			}
			if binary.BigEndian.PutUint32(raw[head+4:], ttl); !bytes.Equal(want, raw) {
				t.Fatalf("%x came, and is %x", raw, want)
			}
		}
		copied, err := Text([]dns.RR{rr})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(copied), 0o600); err != nil {
			t.Fatal(err)
		}
		rrs, err := Read(file, ".")
		if err != nil || len(rrs) != 1 {
			t.Fatalf("%s of %x reads back as %v, %v", copied, want, rrs, err)
		}
		if got := packed(t, rrs[0]); !bytes.Equal(got, want) {
			t.Fatalf("%x\nreads back as\n%x\nfrom %s", want, got, copied)
		}
	}
	for _, rrtype := range types {
		rapid.Check(t, func(t *rapid.T) { check(t, rrtype) })
	}
}

// Backslashes in the data of CAA and URI stay, in whichever form the zone file has them.
func TestOctetsOfAFile(t *testing.T) {
	s := mustLoad(t, [2]string{"example", head + `
u  URI 1 1 "http://x/\\a"
u3 URI \# 15 00010001687474703A2F2F782F5C61
c  CAA 0 issue "a\\b"
c3 CAA \# 10 000569737375 65615c62
`})
	const uri, caa = "\x00\x01\x00\x01http://x/\\a", "\x00\x05issuea\\b"
	for name, want := range map[string]string{"u": uri, "u3": uri, "c": caa, "c3": caa} {
		set := s.Find(wire(name + ".example.")).Node.Sets[0]
		if got := string(set.Packed.Wire[12:]); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if rr, err := dns.NewRR(set.RRs[0].String()); err != nil || !dns.IsDuplicate(rr, set.RRs[0]) {
			t.Errorf("%s: parsed as %v, %v", name, rr, err)
		}
	}
}
