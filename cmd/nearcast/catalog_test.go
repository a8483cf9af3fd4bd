package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

const catalogConfig = `listen: {dns: "127.0.0.1:0", admin: "127.0.0.1:0"}
regions: [{name: us, location: [38.95, -77.45], capacity: 100}]
zones:
  - name: geo.example.com
    file: own.zone
    services:
      - {name: www, regions: [{region: us, addresses: [192.0.2.101]}]}
      - {name: x.apps, regions: [{region: us, addresses: [192.0.2.101]}]}
      - {name: "*.wild", regions: [{region: us, addresses: [192.0.2.101]}]}
      - {name: "@", regions: [{region: us, addresses: [192.0.2.101]}]}
  - {name: one.cat, file: copies/one, primaries: [{address: "127.0.0.1:9"}], catalog: {folder: members}}
  - {name: two.cat, file: copies/two, primaries: [{address: "127.0.0.1:9"}], catalog: {folder: members}}
`

func catalogText(members string) string {
	return "$TTL 0\n@ SOA invalid. invalid. 1 3600 600 604800 0\n@ NS invalid.\nversion TXT 2\n" + members
}

// members are the zones of a configuration that catalogs name, each with its catalog.
func (l *loaded) members(t *testing.T) string {
	t.Helper()
	var all []string
	for i, z := range l.Zones[l.own:] {
		of := ""
		for _, label := range []string{"a", "b", "c"} {
			for _, catalog := range []string{"one.cat.", "two.cat."} {
				if z.File == filepath.Join("members", memberFile(z.Name, catalog, label)) {
					of = label + " " + catalog
				}
			}
		}
		if l.position(z.Name) != l.own+i {
			t.Errorf("%s is at %d", z.Name, l.position(z.Name))
		}
		all = append(all, z.Name+" "+of)
	}
	return strings.Join(all, ", ")
}

// Whatever a catalog names, or its copy holds, a director starts, and serves of it what can be served.
func TestWhatCatalogsName(t *testing.T) {
	good := catalogText("a.zones PTR m.test.\n")
	var table *loaded // has geography, which takes its time
	for name, c := range map[string]struct{ one, two, members, leftOut string }{
		"members":                   {good, catalogText("a.zones PTR n.test."), "m.test. a one.cat., n.test. a two.cat.", ""},
		"a wildcard":                {catalogText("a.zones PTR *.m.test.\nb.zones PTR n.test."), "", "n.test. b one.cat.", "*.m.test.: not a name of a zone, in the catalog one.cat."},
		"the root":                  {catalogText("a.zones PTR .\n"), "", "", ".: the root, in the catalog one.cat."},
		"a service's name":          {catalogText("a.zones PTR www.geo.example.com.\n"), "", "", "www.geo.example.com.: the place of a service, in the catalog one.cat."},
		"above it":                  {catalogText("a.zones PTR apps.geo.example.com.\n"), "", "", "apps.geo.example.com.: the place of a service, in the catalog one.cat."},
		"above a wildcard":          {catalogText("a.zones PTR wild.geo.example.com.\n"), "", "", "wild.geo.example.com.: the place of a service, in the catalog one.cat."},
		"below it":                  {catalogText("a.zones PTR a.www.geo.example.com.\n"), "", "", "a.www.geo.example.com.: the place of a service, in the catalog one.cat."},
		"elsewhere in the zone":     {catalogText("a.zones PTR y.geo.example.com.\n"), "", "y.geo.example.com. a one.cat.", ""},
		"above the zone":            {catalogText("a.zones PTR com.\n"), "", "com. a one.cat.", ""},
		"a zone of the file":        {catalogText("a.zones PTR geo.example.com.\n"), "", "", "geo.example.com.: a zone of the configuration, and stays what it is there, in the catalog one.cat."},
		"itself":                    {catalogText("a.zones PTR one.cat.\n"), "", "", "one.cat.: the catalog itself, in the catalog one.cat."},
		"another catalog":           {catalogText("a.zones PTR two.cat.\n"), "", "", "two.cat.: a zone of the configuration, and stays what it is there, in the catalog one.cat."},
		"a catalog cut":             {good[:len(good)-8], good, "m.test. a two.cat.", ""},
		"an empty catalog":          {" ", good, "m.test. a two.cat.", ""},
		"of another version":        {strings.Replace(good, "TXT 2", "TXT 3", 1), good, "m.test. a two.cat.", ""},
		"sealed, and cut":           {zones.Seal(good + "b.zones PTR n.test.\n")[:len(zones.Seal(good))], good, "m.test. a two.cat.", ""},
		"the same in both":          {good, catalogText("b.zones PTR m.test.\n"), "m.test. a one.cat.", "m.test.: a member of one.cat., in the catalog two.cat."},
		"given to the other":        {good + "coo.a.zones PTR two.cat.\n", catalogText("b.zones PTR m.test.\n"), "m.test. b two.cat.", "m.test.: a member of two.cat., in the catalog one.cat."},
		"given to what has it not":  {good + "coo.a.zones PTR two.cat.\n", catalogText(""), "m.test. a one.cat.", ""},
		"what it has not got given": {good, catalogText("b.zones PTR m.test.\ncoo.b.zones PTR two.cat.\n"), "m.test. a one.cat.", "m.test.: a member of one.cat., in the catalog two.cat."},
	} {
		files := map[string]string{"nearcast.yaml": catalogConfig, "own.zone": testZone}
		for file, text := range map[string]string{"copies/one": c.one, "copies/two": c.two} {
			if text != "" {
				files[file] = text
			}
		}
		l, err := source{path: layout(t, files)}.load(table)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		table = &loaded{table: l.table, stamp: l.stamp}
		if got := l.members(t); got != c.members || strings.Join(l.leftOut, ", ") != c.leftOut {
			t.Errorf("%s: %q, left out %q; want %q, %q", name, got, l.leftOut, c.members, c.leftOut)
		}
	}
}

// A catalog that has a zone keeps it, whatever another one claims: by the copy after a restart, and by what is in use.
func TestCatalogKeepsItsZones(t *testing.T) {
	path := layout(t, map[string]string{"nearcast.yaml": catalogConfig, "own.zone": testZone, "copies/one": catalogText(""), "copies/two": catalogText("b.zones PTR m.test.\n")})
	first, err := source{path: path}.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if err := os.WriteFile(filepath.Join(dir, "copies", "one"), []byte(catalogText("a.zones PTR m.test.\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := source{path: path}.load(first)
	if err != nil || second.members(t) != "m.test. b two.cat." {
		t.Errorf("in use: %q, %v", second.members(t), err)
	}
	if err := os.Mkdir(filepath.Join(dir, "members"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, holder := range []string{"b two.cat.", "a one.cat."} {
		label, catalog, _ := strings.Cut(holder, " ")
		copied := filepath.Join(dir, "members", memberFile("m.test.", catalog, label))
		if err := os.WriteFile(copied, []byte(testZone), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := source{path: path}.load(&loaded{table: first.table, stamp: first.stamp})
		if err != nil || l.members(t) != "m.test. "+holder {
			t.Errorf("by the copy of %s: %q, %v", holder, l.members(t), err)
		}
		if err := os.Remove(copied); err != nil {
			t.Fatal(err)
		}
	}
}

// The name of a copy leads nowhere else, is no other member's, and fits a file system.
func TestMemberFile(t *testing.T) {
	seen := map[string]bool{}
	long := strings.Repeat(strings.Repeat("x", 62)+".", 4)
	for _, m := range [][3]string{
		{"m.test.", "one.cat.", "a"}, {"m.test.", "one.cat.", "b"}, {"m.test.", "two.cat.", "a"}, {"n.test.", "one.cat.", "a"},
		{"../../etc/x.", "one.cat.", "a"}, {"0/25.2.0.192.in-addr.arpa.", "one.cat.", "a"}, {long, "one.cat.", "a"}, {"y." + long[2:], "one.cat.", "a"},
	} {
		file := memberFile(m[0], m[1], m[2])
		if seen[file] || strings.ContainsRune(file, filepath.Separator) || len(zones.Confirmation(file)) > 200 || !ofMember.MatchString(file) || !ofMember.MatchString(zones.Confirmation(file)) {
			t.Errorf("%v: %s", m, file)
		}
		seen[file] = true
	}
}

// Members come and go with the catalog. A label that changes is another state of the zone: it begins without the old copy. Copies of
// members that are gone go, other files stay; a catalog that is broken changes nothing.
func TestMembersStates(t *testing.T) {
	p := startPrimary(t)
	p.set(t, "one.cat.", 1, "version TXT 2\na.zones PTR m.test.\nb.zones PTR n.test.")
	p.set(t, "m.test.", 5, "a A 192.0.2.1")
	p.set(t, "n.test.", 5, "a A 192.0.2.1")
	path := layout(t, map[string]string{"nearcast.yaml": fmt.Sprintf(`listen: {dns: "127.0.0.1:0", admin: "127.0.0.1:0"}
zones: [{name: one.cat, file: copies/one, primaries: [{address: %q}], catalog: {folder: members}}]
`, p.addr)})
	folder := filepath.Join(filepath.Dir(path), "members")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	gone := memberFile("gone.test.", "one.cat.", "a")
	for _, name := range []string{"mine.zone", "mine.zone.confirmed", gone} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := func(want ...string) {
		t.Helper()
		want = append(want, "mine.zone", "mine.zone.confirmed")
		for _, name := range want[:len(want)-2] {
			want = append(want, zones.Confirmation(name))
		}
		slices.Sort(want)
		until(t, func() string {
			entries, err := os.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if !slices.Equal(got, want) {
				return fmt.Sprintf("%q, want %q", got, want)
			}
			return ""
		})
	}
	s := serveFile(t, path)
	s.expect(t, "a.m.test.", dns.TypeA, "NOERROR 192.0.2.1")
	s.expect(t, "a.n.test.", dns.TypeA, "NOERROR 192.0.2.1")
	files(memberFile("m.test.", "one.cat.", "a"), memberFile("n.test.", "one.cat.", "b"))

	// Another label, and a zone that began anew at the primary with an older serial.
	p.set(t, "m.test.", 1, "a A 192.0.2.2")
	p.set(t, "one.cat.", 2, "version TXT 2\nnew.zones PTR m.test.")
	s.expect(t, "a.m.test.", dns.TypeA, "NOERROR 192.0.2.2")
	s.expect(t, "a.n.test.", dns.TypeA, "REFUSED")
	files(memberFile("m.test.", "one.cat.", "new"))

	given := p.transfers("one.cat.")
	p.set(t, "one.cat.", 3, "version TXT 3\nnew.zones PTR m.test.")
	until(t, func() string {
		if p.transfers("one.cat.") < given+2 {
			return "the broken catalog is not fetched"
		}
		return ""
	})
	s.expect(t, "a.m.test.", dns.TypeA, "NOERROR 192.0.2.2")
	files(memberFile("m.test.", "one.cat.", "new"))
	p.set(t, "one.cat.", 4, "version TXT 2")
	s.expect(t, "a.m.test.", dns.TypeA, "REFUSED")
	files()
}
