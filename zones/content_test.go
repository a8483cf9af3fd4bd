package zones

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A copy that is not as it was written is not served for the whole; one without a seal is an operator's.
func TestSealedCopies(t *testing.T) {
	text := "@ 60 SOA ns h 1 2 3 604800 5\n@ 60 NS ns\na 60 A 192.0.2.1\n"
	sealed := Seal(text)
	line := strings.LastIndex(sealed, "a 60")
	for name, c := range map[string]struct{ text, absent string }{
		"whole":            {sealed, ""},
		"an operator's":    {text, ""},
		"cut at a line":    {sealed[:line], "not as it was written"},
		"cut in a line":    {sealed[:len(sealed)-4], "not as it was written"},
		"cut in its seal":  {sealed[:20], "no SOA"},
		"without its text": {sealed[:strings.Index(sealed, "\n")+1], "not as it was written"},
		"empty":            {"", "no SOA"},
		"longer":           {sealed + "b 60 A 192.0.2.2\n", "not as it was written"},
		"changed":          {strings.Replace(sealed, "192.0.2.1", "192.0.2.9", 1), "not as it was written"},
	} {
		dir := writeFiles(t, map[string]string{"a": c.text})
		var r reports
		set := Load(dir, nil, []ZoneConfig{{Name: "a.test", File: "a", Fed: true}}, r.add)
		if set == nil || !strings.Contains(set.Zones[0].Absent, c.absent) || (set.Zones[0].Absent == "") != (c.absent == "") {
			t.Errorf("%s: %q, want %q", name, r, c.absent)
		}
		if _, err := Read(filepath.Join(dir, "a"), "a.test."); (err == nil) != (c.absent == "" || c.absent == "no SOA") {
			t.Errorf("%s: as what steps begin at: %v", name, err)
		}
	}
}

// Sets that are made of the same contents have the same records: one does not change what another one serves, and what is
// in neither file nor services is not read or compared again.
func TestContentsAreShared(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a": head + "X 5 A 192.0.2.1\nx 9 A 192.0.2.2\nx 9 A 192.0.2.2\nplain TXT \"t\"\nh HTTPS 1 x ipv4hint=0.0.0.0\nz SRV 1 1 1 plain\n",
		"b": head + "t A 192.0.2.9\n",
	})
	regions := []RegionConfig{{Name: "r", Location: []float64{0, 0}, Capacity: 1}}
	steered := []ServiceConfig{{Name: "x", Regions: []MemberConfig{{Region: "r", Addresses: []string{"2001:db8::1"}}}}}
	a, b := ReadContent(filepath.Join(dir, "a"), "a.test."), ReadContent(filepath.Join(dir, "b"), "b.test.")
	before := make([]string, len(a.records))
	for i, r := range a.records {
		before[i] = r.rr.String()
	}
	load := func(services ...ServiceConfig) *Set {
		var r reports
		set := Load(t.TempDir(), regions, []ZoneConfig{
			{Name: "a.test", File: "gone", Content: a}, {Name: "b.test", File: "gone", Content: b, Services: services},
		}, r.add)
		if set == nil {
			t.Fatal(r)
		}
		return set
	}
	first, second := load(), load(steered...)
	for i, r := range a.records {
		if got := r.rr.String(); got != before[i] {
			t.Errorf("a set changed what was read, %s, to %s", before[i], got)
		}
	}
	h := second.Find(wire("h.a.test."))
	if got := h.Node.RRset(dns.TypeHTTPS).RRs[0].String(); !strings.Contains(got, `ipv4hint="192.0.2.1,192.0.2.2"`) {
		t.Errorf("a record with hints: %s", got)
	}
	if set := second.Find(wire("x.a.test.")).Node.RRset(dns.TypeA); set.TTL != 5 || len(set.RRs) != 2 {
		t.Errorf("a set of two TTLs: %v", set.RRs)
	}
	for _, name := range []string{"plain", "z"} {
		at := wire(name + ".a.test.")
		if first.Find(at).Node.Sets[0].RRs[0] != second.Find(at).Node.Sets[0].RRs[0] {
			t.Errorf("%s is another record in another set", name)
		}
	}
	if removed, added := Diff(first.Zones[0], second.Zones[0]); removed != nil || added != nil {
		t.Errorf("%v, %v differ", removed, added)
	}
	if removed, added := Diff(first.Zones[1], second.Zones[1]); removed != nil || len(added) != 1 {
		t.Errorf("with a service %v, %v differ", removed, added)
	}
}

// What was read is read again where a file of it may have changed, and only there.
func TestContentChanged(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		change func(dir string) error
		want   bool
	}{
		"nothing":         {func(string) error { return nil }, false},
		"another file":    {func(dir string) error { return os.WriteFile(filepath.Join(dir, "c"), nil, 0o600) }, false},
		"it":              {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600) }, true},
		"what it has":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "b"), nil, 0o600) }, true},
		"its time":        {func(dir string) error { return os.Chtimes(filepath.Join(dir, "a"), old, old.Add(time.Second)) }, true},
		"it is gone":      {func(dir string) error { return os.Remove(filepath.Join(dir, "a")) }, true},
		"what it has too": {func(dir string) error { return os.Remove(filepath.Join(dir, "b")) }, true},
	} {
		dir := writeFiles(t, map[string]string{"a": head + "$INCLUDE b\n", "b": "x A 192.0.2.1\n"})
		for _, f := range []string{"a", "b"} {
			if err := os.Chtimes(filepath.Join(dir, f), old, old); err != nil {
				t.Fatal(err)
			}
		}
		content := ReadContent(filepath.Join(dir, "a"), "a.test.")
		if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		if got := content.Changed(); got != c.want {
			t.Errorf("%s: changed %v", name, got)
		}
	}
	dir := writeFiles(t, map[string]string{"a": head})
	if !ReadContent(filepath.Join(dir, "a"), "a.test.").Changed() {
		t.Error("a file that was written a moment ago may be written again within its time's grain")
	}
	if !slices.Contains(ParseContent("@ 60 A 192.0.2.1\n", "a.test.").At(filepath.Join(dir, "a")).files, filepath.Join(dir, "a")) {
		t.Error("a text that was written has no file")
	}
}

// An operator's record whose hints are of a zone that primaries feed does not stop the set when these change.
func TestHintsOfAFedZone(t *testing.T) {
	dir := writeFiles(t, map[string]string{"own": head + "h HTTPS 1 x.fed.test. ipv4hint=0.0.0.0 alpn=h2\n", "empty": head, "fed": head + "x A 192.0.2.1\n"})
	for file, want := range map[string]string{"none": `alpn="h2"`, "empty": `alpn="h2"`, "fed": `ipv4hint="192.0.2.1" alpn="h2"`} {
		var r reports
		set := Load(dir, nil, []ZoneConfig{{Name: "own.test", File: "own"}, {Name: "fed.test", File: file, Fed: true}}, r.add)
		if set == nil {
			t.Fatalf("%s: %q", file, r)
		}
		rr := set.Find(wire("h.own.test.")).Node.RRset(dns.TypeHTTPS).RRs[0].String()
		if hinted := strings.Contains(rr, "ipv4hint"); !strings.Contains(rr, `alpn="h2"`) || hinted != strings.Contains(want, "ipv4hint") {
			t.Errorf("%s: %s, want %s", file, rr, want)
		}
	}
}
