package dnsserver

import (
	"slices"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// maxSteps is how many versions of a zone a secondary may be behind.
const maxSteps = 32

// journals are the changes of zones, by name. Immutable.
type journals map[string]*journal

// A journal is how a zone came to be what it is. Immutable.
//
// A step tells a secondary what to change in what it has, and it has what a serial was when it asked. So there are steps from those
// serials only that have had one content for as long as there are secondaries: those that a reload brought and that are newer
// than any before. What had the serial of the first version before this process started, nobody knows; so secondaries of that version get the
// whole zone once.
type journal struct {
	doubt uint32 // secondaries may have another content of this serial and those before it
	steps []step // the oldest first; each from a serial after doubt, and to one after that
}

type step struct {
	from, to       dns.RR // SOAs
	removed, added []dns.RR
}

// since is what a secondary lacks that has the version from, as IXFR sends it (RFC 1995, section 4); nil if that is not
// known.
func (j *journal) since(from uint32, zone *zones.Zone) (parts [][]dns.RR) {
	if j == nil {
		return nil
	}
	i := slices.IndexFunc(j.steps, func(s step) bool { return s.from.(*dns.SOA).Serial == from })
	if i < 0 || j.steps[len(j.steps)-1].to.(*dns.SOA).Serial != zone.Serial() {
		return nil
	}
	soa := zone.Records[:1]
	parts = append(parts, soa)
	for _, s := range j.steps[i:] {
		parts = append(parts, []dns.RR{s.from}, s.removed, []dns.RR{s.to}, s.added)
	}
	return append(parts, soa)
}

// update is the journals after a reload. unseen are zones that changed and have no newer serial: their secondaries will
// not see it.
func (js journals) update(before, after *zones.Set) (next journals, unseen []string) {
	next = journals{}
	was := map[string]*zones.Zone{}
	for _, z := range before.Zones {
		was[z.Name] = z
	}
	for _, z := range after.Zones {
		j, old := js[z.Name], was[z.Name]
		if old == nil || old.Absent != "" {
			if j == nil && z.Absent == "" {
				j = &journal{doubt: z.Serial()}
			}
			next[z.Name] = j
			continue
		}
		if j == nil {
			j = &journal{doubt: old.Serial()}
		}
		switch {
		case z.Absent != "":
			j = j.without(old)
		case newer(z.Serial(), old.Serial()):
			j = j.with(old, z)
		case z.Serial() != old.Serial() || changed(old, z):
			j = j.without(old)
			unseen = append(unseen, z.Name)
		}
		next[z.Name] = j
	}
	return next, unseen
}

// changed tells if two versions differ.
func changed(before, after *zones.Zone) bool {
	removed, added := zones.Diff(before, after)
	return len(removed)+len(added) > 0 || before.Records[0].String() != after.Records[0].String()
}

// without is the journal after a version that may be gone, or be another one with the same serial.
func (j *journal) without(old *zones.Zone) *journal {
	if newer(old.Serial(), j.doubt) {
		return &journal{doubt: old.Serial()}
	}
	return &journal{doubt: j.doubt}
}

// with is the journal with the step to a newer version, without the oldest steps that are too many, or together more than
// the zone has records. A serial that went round as far as to those in doubt (RFC 1982) begins anew.
func (j *journal) with(old, z *zones.Zone) *journal {
	switch {
	case !newer(old.Serial(), j.doubt):
		return &journal{doubt: j.doubt}
	case !newer(z.Serial(), j.doubt):
		return &journal{doubt: old.Serial()}
	}
	removed, added := zones.Diff(old, z)
	steps := append(slices.Clone(j.steps), step{old.Records[0], z.Records[0], removed, added})
	steps = steps[max(len(steps)-maxSteps, 0):]
	size := 0
	for i := len(steps) - 1; i >= 0; i-- {
		if size += len(steps[i].removed) + len(steps[i].added); size > len(z.Records) {
			return &journal{j.doubt, steps[i+1:]}
		}
	}
	return &journal{j.doubt, steps}
}

// newer tells if serial a comes after b (RFC 1982).
func newer(a, b uint32) bool { return int32(a-b) > 0 }
