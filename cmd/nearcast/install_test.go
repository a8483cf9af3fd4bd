package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/dnsserver"
)

// Of more installs than fit at once, none is lost: those over the bound come next.
func TestInstallsOverTheBound(t *testing.T) {
	const all, most = 10, 4
	wait := make(chan install, all)
	for i := range all {
		wait <- install{zone: fmt.Sprint(i)}
	}
	got := ""
	for len(wait) > 0 {
		batch := waiting(<-wait, wait, most)
		if len(batch) > most {
			t.Errorf("%d at once", len(batch))
		}
		for _, in := range batch {
			got += in.zone
		}
	}
	if got != "0123456789" {
		t.Errorf("%s came into use", got)
	}
}

// What an operator's files hold by now does not halt transfers, nor does it keep an expired zone in service; also where the
// configuration is named by a relative path.
func TestTransfersDoNotDependOnFiles(t *testing.T) {
	p := startPrimary(t)
	p.set(t, "steered.test.", 1, "a A 192.0.2.1")
	p.expire = 5
	p.set(t, "fed.test.", 1, "a A 192.0.2.1")
	path := layout(t, map[string]string{
		"nearcast.yaml": fmt.Sprintf(`listen: {dns: "127.0.0.1:0", admin: "127.0.0.1:0"}
regions: [{name: us, location: [38.95, -77.45], capacity: 100}]
zones:
  - {name: geo.example.com, file: own.zone}
  - {name: fed.test, file: copies/fed.zone, primaries: [{address: %[1]q}]}
  - name: steered.test
    file: copies/steered.zone
    primaries: [{address: %[1]q}]
    services: [{name: www, regions: [{region: us, addresses: [192.0.2.101]}]}]
`, p.addr),
		"own.zone": testZone,
	})
	t.Chdir(filepath.Dir(filepath.Dir(path)))
	s := serveFile(t, filepath.Join(filepath.Base(filepath.Dir(path)), "nearcast.yaml"))
	s.expect(t, "a.fed.test.", dns.TypeA, "NOERROR 192.0.2.1")
	s.expect(t, "www.steered.test.", dns.TypeA, "NOERROR 192.0.2.101")
	s.expect(t, "ns1.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.1")

	for name, text := range map[string]string{path: "zones: [\n", filepath.Join(filepath.Dir(path), "own.zone"): "nothing\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.set(t, "fed.test.", 2, "a A 192.0.2.2")
	s.expect(t, "a.fed.test.", dns.TypeA, "NOERROR 192.0.2.2")
	copied, err := os.ReadFile(filepath.Join(filepath.Dir(path), "copies", "fed.zone"))
	if err != nil || !strings.Contains(string(copied), "192.0.2.2") {
		t.Errorf("the copy: %s, %v", copied, err)
	}

	// A version that the service cannot lie over is refused; copy and answers stay.
	p.expire = 604800
	p.set(t, "steered.test.", 2, "www CNAME a")
	until(t, func() string {
		if p.transfers("steered.test.") < 2 {
			return "the version is not fetched"
		}
		return ""
	})
	s.expect(t, "www.steered.test.", dns.TypeA, "NOERROR 192.0.2.101")
	if err := s.d.askReload(context.Background()); err == nil {
		t.Error("a broken configuration is taken")
	}
	s.expect(t, "ns1.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.1")

	p.set(t, "fed.test.", 0, "")
	s.expect(t, "a.fed.test.", dns.TypeA, "SERVFAIL")
	s.expect(t, "ns1.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.1")
	asked := p.questions("fed.test.")
	until(t, func() string { // soon again, however often it failed before the copy went
		if p.questions("fed.test.") < asked+2 {
			return "the primary is not asked"
		}
		return ""
	})
	p.set(t, "fed.test.", 2, "a A 192.0.2.2")
	s.expect(t, "a.fed.test.", dns.TypeA, "NOERROR 192.0.2.2")
}

// A copy that is cut is neither served nor fetched further from; it is transferred anew.
func TestCutCopyIsTransferredAnew(t *testing.T) {
	p := startPrimary(t)
	p.set(t, "fed.test.", 1, "a A 192.0.2.1\nb A 192.0.2.2")
	path := layout(t, map[string]string{"nearcast.yaml": fmt.Sprintf(`listen: {dns: "127.0.0.1:0", admin: "127.0.0.1:0"}
zones: [{name: fed.test, file: copies/fed.zone, primaries: [{address: %q}]}]
`, p.addr)})
	file := filepath.Join(filepath.Dir(path), "copies", "fed.zone")
	s := serveFile(t, path)
	s.expect(t, "b.fed.test.", dns.TypeA, "NOERROR 192.0.2.2")
	s.stop()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.LastIndex(strings.TrimSpace(string(text)), "\n") + 1
	if err := os.WriteFile(file, text[:cut], 0o600); err != nil {
		t.Fatal(err)
	}
	given := p.transfers("fed.test.")
	s = serveFile(t, path)
	s.expect(t, "b.fed.test.", dns.TypeA, "NOERROR 192.0.2.2")
	if p.transfers("fed.test.") == given {
		t.Error("the cut copy was served")
	}
}

// A reload does not move copies to where they cannot be written.
func TestNewFolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(folder string) *loaded {
		z := Zone{Primaries: []dnsserver.PrimaryConfig{{Address: "192.0.2.1"}}}
		z.File = filepath.Join(folder, "copy")
		return &loaded{dir: dir, Config: Config{Zones: []Zone{z}}}
	}
	for folder, want := range map[string]bool{"copies": true, "made/copies": true, "file/copies": false, "/proc/copies": false} {
		if err := at("copies").newFolders(at(folder)); (err == nil) != want {
			t.Errorf("%s: %v", folder, err)
		}
	}
	if err := at("file/copies").newFolders(at("file/copies")); err != nil {
		t.Errorf("a folder that is none of the reload's: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "made/copies")); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
