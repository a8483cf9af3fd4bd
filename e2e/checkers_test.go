package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// The checkers that registries and operators use find nothing wrong with the delegated zone.
func TestCheckers(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	need(t, "checkers")
	n := newInternet(t)
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := n.command(program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		return string(out)
	}
	path := func(name string) string { return filepath.Join(n.dir, name) }

	n.write(n.dir, "root.hints", rootHints)
	found := run("zonemaster-cli", "--no-ipv6", "--hints", path("root.hints"), "--level", "INFO", "--raw", "--show-testcase", "geo.example.com")
	for _, ran := range []string{"NOT_SIGNED", "DELEGATION01", "NAMESERVER", "SYNTAX", "ZONE"} {
		if !strings.Contains(found, ran) {
			t.Errorf("zonemaster did not run %s", ran)
		}
	}
	for line := range strings.Lines(found) {
		for _, level := range []string{" WARNING ", " ERROR ", " CRITICAL "} {
			if strings.Contains(line, level) {
				t.Errorf("zonemaster: %s", strings.TrimSpace(line))
			}
		}
	}

	run("dnsviz", "probe", "-4", "-A", "-a", ".", "-x", ".:a.root=44.0.1.1", "-o", path("probe.json"),
		"geo.example.com", "www.geo.example.com", "alias.geo.example.com", "x.wild.geo.example.com", "gone.geo.example.com")
	if all := run("dnsviz", "grok", "-l", "info", "-r", path("probe.json")); !strings.Contains(all, "gone.geo.example.com.") {
		t.Errorf("dnsviz did not look at the zone:\n%s", all)
	}
	if wrong := strings.TrimSpace(run("dnsviz", "grok", "-l", "warning", "-r", path("probe.json"))); wrong != "" && wrong != "{}" {
		t.Errorf("dnsviz:\n%s", wrong)
	}
}
