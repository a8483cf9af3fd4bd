package dnsserver

import (
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/nearcast/nearcast/zones"
)

// plainVersion is a zone of the records that a mask names.
func plainVersion(serial uint32, mask int) *zones.Set {
	soa := soaOf(serial)
	rrs := []dns.RR{soa}
	for i := range 4 {
		if mask>>i&1 == 1 {
			rrs = append(rrs, &dns.TXT{Hdr: dns.RR_Header{Name: "fed.test.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{fmt.Sprint(i)}})
		}
	}
	return &zones.Set{Zones: []*zones.Zone{{Name: "fed.test.", SOA: &zones.RRset{RRs: rrs[:1]}, Records: rrs}}}
}

// refreshed is what a secondary has after a transfer, if it sees a newer version.
func refreshed(t *rapid.T, have []dns.RR, js journals, zone *zones.Zone) []dns.RR {
	if have != nil && !newer(zone.Serial(), have[0].(*dns.SOA).Serial) {
		return have
	}
	whole := slices.Clone(zone.Records)
	if have == nil {
		return whole
	}
	parts := js[zone.Name].since(have[0].(*dns.SOA).Serial, zone)
	if parts == nil {
		return whole
	}
	rrs, err := assemble(have, slices.Concat(parts...))
	if err != nil {
		t.Fatalf("steps that do not fit: %v", err)
	}
	return rrs
}

// However serials and contents move, and whenever the server starts anew, a secondary that sees a newer serial has the zone's
// content after the transfer.
func TestSecondariesHaveTheZone(t *testing.T) {
	const jump = 1<<31 - 1 // the farthest that a serial can move
	rapid.Check(t, func(t *rapid.T) {
		serial, mask := rapid.Uint32().Draw(t, "serial"), 1
		set, js, highest := plainVersion(serial, mask), journals{}, serial
		secondaries := make([][]dns.RR, 3)
		refresh := func(i int) {
			before := secondaries[i]
			secondaries[i] = refreshed(t, before, js, set.Zones[0])
			sees := before == nil || newer(serial, before[0].(*dns.SOA).Serial)
			if got, want := sorted(secondaries[i]), sorted(set.Zones[0].Records); sees && !slices.Equal(got, want) {
				t.Fatalf("secondary %d has %q, want %q", i, got, want)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "reloads") {
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 && !newer(highest, serial) {
				js = journals{}
			}
			move := rapid.SampledFrom([]uint32{0, 0, 1, 1, 1, 2, jump, ^uint32(0), ^uint32(2)}).Draw(t, "move")
			if move == jump {
				for i := range secondaries { // one that is farther behind takes the newer version for the older one
					refresh(i)
				}
			}
			serial += move
			if newer(serial, highest) {
				highest = serial
			}
			if rapid.Bool().Draw(t, "changes") {
				mask = rapid.IntRange(0, 15).Draw(t, "records")
			}
			next := plainVersion(serial, mask)
			if rapid.IntRange(0, 9).Draw(t, "absent") == 0 {
				next.Zones[0] = &zones.Zone{Name: "fed.test.", Absent: "expired"}
				js, _ = js.update(set, next)
				set = next
				next = plainVersion(serial, mask)
			}
			js, _ = js.update(set, next)
			set = next
			for i := range secondaries {
				if move == jump || rapid.Bool().Draw(t, "refreshes") {
					refresh(i)
				}
			}
		}
	})
}

// From which versions there are steps, and of which changes secondaries will not hear.
func TestJournal(t *testing.T) {
	if !newer(3, 4294967290) || newer(4294967290, 3) || newer(3, 3) {
		t.Error("serials are not compared as RFC 1982 says")
	}
	type v struct {
		serial uint32
		mask   int
	}
	for _, c := range []struct {
		name     string
		versions []v
		unseen   int
		steps    []uint32 // serials from which there are steps to the last version
	}{
		{"the version at the start is no base", []v{{1, 1}, {2, 3}}, 0, nil},
		{"those of reloads are", []v{{1, 1}, {2, 3}, {3, 3}, {4, 7}}, 0, []uint32{2, 3}},
		{"nothing changed", []v{{1, 1}, {2, 3}, {3, 7}, {3, 7}}, 0, []uint32{2}},
		{"the same serial", []v{{1, 1}, {2, 3}, {3, 7}, {3, 15}}, 1, nil},
		{"the same serial, then a newer one", []v{{1, 1}, {2, 3}, {2, 7}, {3, 7}}, 1, nil},
		{"and one more", []v{{1, 1}, {2, 3}, {2, 7}, {3, 7}, {4, 3}}, 1, []uint32{3}},
		{"back and forth", []v{{1, 1}, {4, 3}, {3, 7}, {4, 7}, {5, 3}, {6, 3}}, 1, []uint32{5}},
		{"over the wrap", []v{{1<<32 - 3, 1}, {1<<32 - 2, 3}, {1<<32 - 1, 7}, {2, 7}}, 0, []uint32{1<<32 - 2, 1<<32 - 1}},
		{"set back by two jumps", []v{{7, 1}, {8, 3}, {8 + (1<<31 - 1), 7}, {1, 7}, {2, 3}, {3, 1}}, 0, []uint32{1, 2}},
		{"round to where it was", []v{{1, 1}, {5, 3}, {5 + (1<<31 - 1), 7}, {3, 15}, {5, 1}, {6, 3}}, 0, []uint32{5}},
	} {
		js, unseen := journals{}, 0
		set := plainVersion(c.versions[0].serial, c.versions[0].mask)
		for _, v := range c.versions[1:] {
			next := plainVersion(v.serial, v.mask)
			var u []string
			js, u = js.update(set, next)
			unseen += len(u)
			set = next
		}
		for _, v := range c.versions[:len(c.versions)-1] {
			if got, want := js["fed.test."].since(v.serial, set.Zones[0]) != nil, slices.Contains(c.steps, v.serial); got != want {
				t.Errorf("%s: steps from %d: %v, want %v", c.name, v.serial, got, want)
			}
		}
		if unseen != c.unseen {
			t.Errorf("%s: %d changes unseen, want %d", c.name, unseen, c.unseen)
		}
	}
}
