package zones

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/miekg/dns"
)

// Load compiles the zones' contents, or those of their files, relative to dir, with the services
// and regions. Every problem goes to report; the set is nil if there was one.
//
// Problems of a zone file stand at the zone's key "file", with the file's name and
// line in the value.
func Load(dir string, regions []RegionConfig, zones []ZoneConfig, report Reporter) *Set {
	l := &loader{dir: dir, zones: map[string]*Zone{}, broken: map[int]bool{}, set: &Set{names: map[string]*Node{}}}
	l.report = func(key string, value any, accepted string) {
		l.problems++
		report(key, value, accepted)
	}
	l.regions(regions)
	for i := range zones {
		l.zone(i, &zones[i])
	}
	for d := range l.whole {
		d.build(l.set)
	}
	for _, z := range l.set.Zones {
		if len(z.Wire) > 1 && z.Above.Zone == nil {
			z.Above = l.set.undelegated(string(z.Wire))
		}
	}
	// Services come after the nodes of all zones, since a name that one zone's service
	// asks for may be another zone's.
	for i, d := range l.drafts {
		l.services(i, d, zones[i].Services)
	}
	for d := range l.whole {
		l.nameServers(d)
		l.hints(d)
		d.extras(l.set)
		d.zone.Records = l.records(d)
	}
	if l.problems > 0 {
		return nil
	}
	slices.Sort(l.set.files)
	l.set.files = slices.Compact(l.set.files)
	return l.set
}

// A loader turns a configuration into a set. What is wrong is reported where it is
// met, once, and left out; so the rest can be checked without a second report.
type loader struct {
	dir      string
	report   Reporter
	problems int
	set      *Set
	zones    map[string]*Zone // by apex
	drafts   []*draft         // by zone; nil where the zone's own keys are wrong
	broken   map[int]bool     // zones whose files are wrong: they have no nodes
}

// whole yields the zones that have records, and good ones.
func (l *loader) whole(yield func(*draft) bool) {
	for _, d := range l.drafts {
		if d != nil && !l.broken[d.zone.Index] && d.zone.Absent == "" && !yield(d) {
			return
		}
	}
}

// zone reads and checks one zone's file.
func (l *loader) zone(i int, c *ZoneConfig) {
	key := fmt.Sprintf("zones[%d]", i)
	l.drafts = append(l.drafts, nil)
	wire, ok := l.name(key+".name", c.Name)
	switch {
	case !ok:
		return
	case isWildcard(wire):
		l.report(key+".name", c.Name, "a name without \"*\"")
		return
	case l.zones[wire] != nil:
		l.report(key+".name", c.Name, "each zone once")
		return
	}
	z := &Zone{Index: i, Name: textName(wire), Wire: []byte(wire), Catalog: c.Catalog}
	l.zones[wire] = z
	d := &draft{zone: z, apex: wire, names: map[string][]record{}, zones: l.zones, fed: c.Fed}
	d.problem = func(file string, line int, found, accepted string) {
		if c.Fed { // the copy is the director's own to mend
			z.Absent = cmp.Or(z.Absent, fmt.Sprintf("the copy cannot be used: line %d: %s", line, found))
			return
		}
		l.fileProblem(i, c.File, file, line, found, accepted)
	}
	l.drafts[i] = d
	l.set.Zones = append(l.set.Zones, z)
	if c.File == "" {
		l.broken[i] = true
		l.report(key+".file", c.File, "the zone's file")
		return
	}
	content := c.Content
	if content == nil {
		content = ReadContent(absolute(l.dir, c.File), z.Name)
	}
	if c.Fed {
		z.Absent = content.absent()
	} else {
		l.set.files = append(l.set.files, content.files...)
	}
	if z.Absent == "" {
		l.content(d, content)
	}
	if soa := d.find(wire, dns.TypeSOA); c.Fed && z.Absent == "" {
		z.Absent = content.expired(soa[0].rr.(*dns.SOA))
	}
	if z.Absent != "" {
		l.set.node(wire, z)
	}
}

// content gives a zone its records, and tells what is wrong with them.
func (l *loader) content(d *draft, c *Content) {
	for _, p := range c.problems {
		d.problem(p.file, p.line, p.found, p.accepted)
	}
	d.add(c.records)
	if l.broken[d.zone.Index] {
		return // what is missing may stand in what could not be read
	}
	d.check()
	if d.zone.Catalog {
		if _, _, err := c.Members(d.zone.Name); err != nil {
			d.problem("", 0, err.Error(), "a catalog of version 2 (RFC 9432)")
		}
	}
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// fileProblem reports a problem of the zone file at configured; file, relative to the
// folder of that file, and line tell where; line 0 is the file as a whole.
func (l *loader) fileProblem(zone int, configured, file string, line int, found, accepted string) {
	l.broken[zone] = true
	at := configured
	if file != "" {
		at = filepath.Join(filepath.Dir(configured), file)
	}
	if line > 0 {
		at = fmt.Sprintf("%s:%d", at, line)
	}
	l.report(fmt.Sprintf("zones[%d].file", zone), at+": "+found, accepted)
}

// nameServers tells which of a zone's own name servers have no address in it: a
// resolver could not reach the zone by them.
func (l *loader) nameServers(d *draft) {
	if d.fed {
		return // the primaries' to mend
	}
	for _, r := range d.find(d.apex, dns.TypeNS) {
		host, err := wireName(r.rr.(*dns.NS).Ns)
		if err != nil {
			continue // packed before
		}
		m := l.set.Find([]byte(host))
		if m.Zone != d.zone || m.Kind == Referral {
			continue
		}
		n := m.Node
		if m.Kind == Renamed {
			n = nil
		}
		if n == nil || n.RRset(dns.TypeA) == nil && n.RRset(dns.TypeAAAA) == nil && (n.Service == nil || n.Service.CNAME) {
			d.problem(r.file, r.line, "name server "+textName(host)+" has no address in the zone", "name servers with A or AAAA records, and no CNAME")
		}
	}
}

// Files returns the paths that the set was read from, for watching; copies, which the director writes itself, are not among them.
func (s *Set) Files() []string { return s.files }
