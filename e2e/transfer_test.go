package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// fedZone is a version of the zone that the test's primary has.
func fedZone(serial int, text string) string {
	return fmt.Sprintf("@ 300 SOA ns1 hostmaster %d 3600 1 604800 60\n@ 300 NS ns1\nns1 300 A 192.0.2.1\ninfo 300 TXT %q\n", serial, text)
}

// Knot DNS feeds a zone to nearcast, which lays a service over it, and NSD has it from there.
func TestTransfersBetweenServers(t *testing.T) {
	need(t, "peers")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	const secret = "c2VjcmV0LW9mLXRoZS10ZXN0cy1nb29k"
	p := freePorts(t, 4)
	knot, ours, admin, nsd := p[0], p[1], p[2], p[3]

	for _, zone := range []string{"fed.test.zone", "short.test.zone"} {
		write(zone, fedZone(1, "first"))
	}
	write("short.test.zone", strings.ReplaceAll(fedZone(1, "first"), "3600 1 604800", "1 1 4"))
	write("knot.conf", fmt.Sprintf(`server:
  listen: 127.0.0.1@%[1]d
  rundir: %[2]q
  udp-workers: 1
  tcp-workers: 1
database:
  storage: %[2]q
log:
  - target: stderr
    any: warning
key:
  - id: feed.key
    algorithm: hmac-sha256
    secret: %[3]s
remote:
  - id: nearcast
    address: 127.0.0.1@%[4]d
    key: feed.key
acl:
  - id: give
    key: feed.key
    action: transfer
  - id: any
    address: 127.0.0.1
    action: transfer
zone:
  - domain: fed.test
    file: "%[2]s/fed.test.zone"
    acl: give
    notify: nearcast
    zonefile-load: difference
    journal-content: changes
  - domain: short.test
    file: "%[2]s/short.test.zone"
    acl: any
`, knot, dir, secret, ours))
	stopKnot := startServer(t, "knotd", knot, []string{"fed.test.", "short.test."}, "knotd", "-c", filepath.Join(dir, "knot.conf"))

	write("key", secret)
	write("nearcast.yaml", fmt.Sprintf(`listen: {dns: [127.0.0.1:%d], admin: 127.0.0.1:%d}
dns:
  keys: [{name: feed.key, secret_file: key}]
regions: [{name: us, location: [38.95, -77.45], capacity: 100}]
zones:
  - name: fed.test
    file: copies/fed.test.zone
    primaries: [{address: "127.0.0.1:%d", key: feed.key}]
    transfer: {allow: [127.0.0.0/8], keys: [feed.key], notify: ["127.0.0.1:%d"]}
    services:
      - {name: www, regions: [{region: us, addresses: [192.0.2.101]}]}
  - name: short.test
    file: copies/short.test.zone
    primaries: [{address: "127.0.0.1:%d"}]
`, ours, admin, knot, nsd, knot))
	serve := func(zones ...string) (stop func()) {
		return startServer(t, "nearcast", ours, zones, bin, "serve", "-c", filepath.Join(dir, "nearcast.yaml"))
	}
	stopOurs := serve("fed.test.", "short.test.")

	write("nsd.conf", fmt.Sprintf(`server:
  ip-address: 127.0.0.1@%d
  server-count: 1
  username: ""
  zonesdir: %[2]q
  pidfile: ""
  database: ""
  xfrdfile: "%[2]s/xfrd.state"
  xfrdir: %[2]q
  zonelistfile: "%[2]s/zone.list"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
key:
  name: feed.key
  algorithm: hmac-sha256
  secret: %[3]s
zone:
  name: fed.test
  zonefile: ""
  request-xfr: 127.0.0.1@%[4]d feed.key
  allow-notify: 127.0.0.1 feed.key
`, nsd, dir, secret, ours))
	startServer(t, "nsd", nsd, []string{"fed.test."}, "nsd", "-d", "-c", filepath.Join(dir, "nsd.conf"))

	answers := func(port int, name string, qtype uint16) string {
		r, _, err := (&dns.Client{Timeout: queryTimeout}).Exchange(new(dns.Msg).SetQuestion(name, qtype), fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err.Error()
		}
		return dns.RcodeToString[r.Rcode] + "\n" + sorted(r.Answer)
	}
	expect := func(port int, name string, qtype uint16, want string) {
		t.Helper()
		if !within(deadline, func() bool { return strings.Contains(answers(port, name, qtype), want) }) {
			t.Fatalf("%s %v at port %d: %s, want %s", name, dns.Type(qtype), port, answers(port, name, qtype), want)
		}
	}
	for _, port := range []int{ours, nsd} {
		expect(port, "info.fed.test.", dns.TypeTXT, `"first"`)
		expect(port, "www.fed.test.", dns.TypeA, "192.0.2.101")
	}
	expect(ours, "info.short.test.", dns.TypeTXT, `"first"`)

	// A new version at the primary goes through to the last secondary at once.
	write("fed.test.zone", fedZone(2, "second"))
	if out, err := command("knotc", "-c", filepath.Join(dir, "knot.conf"), "zone-reload", "fed.test"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, port := range []int{ours, nsd} {
		expect(port, "info.fed.test.", dns.TypeTXT, `"second"`)
		expect(port, "fed.test.", dns.TypeSOA, "hostmaster.fed.test. 2 ")
		expect(port, "www.fed.test.", dns.TypeA, "192.0.2.101")
	}

	// A version that cannot be served is not taken: the last good one stays.
	write("fed.test.zone", fedZone(3, "third")+"www 300 CNAME info\n")
	if out, err := command("knotc", "-c", filepath.Join(dir, "knot.conf"), "zone-reload", "fed.test"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	failed := func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", admin))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && !strings.Contains(string(text), `nearcast_zone_refreshes_total{result="failed"} 0`)
	}
	if !within(deadline, failed) {
		t.Fatal("a version with a CNAME at a service is not refused")
	}
	expect(knot, "fed.test.", dns.TypeSOA, "hostmaster.fed.test. 3 ")
	expect(ours, "fed.test.", dns.TypeSOA, "hostmaster.fed.test. 2 ")
	write("fed.test.zone", fedZone(4, "fourth"))
	if out, err := command("knotc", "-c", filepath.Join(dir, "knot.conf"), "zone-reload", "fed.test"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expect(nsd, "info.fed.test.", dns.TypeTXT, `"fourth"`)

	// Without its primary, a director serves the copies, also after a restart, until they expire.
	stopKnot()
	stopOurs()
	serve("fed.test.")
	expect(ours, "info.fed.test.", dns.TypeTXT, `"fourth"`)
	expect(ours, "www.fed.test.", dns.TypeA, "192.0.2.101")
	expect(ours, "info.short.test.", dns.TypeTXT, "SERVFAIL")
	startServer(t, "knotd", knot, []string{"fed.test.", "short.test."}, "knotd", "-c", filepath.Join(dir, "knot.conf"))
	expect(ours, "info.short.test.", dns.TypeTXT, `"first"`)
}

// A director serves what a catalog of Knot DNS names, without a change of its own configuration.
func TestCatalogOfZones(t *testing.T) {
	need(t, "peers")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	p := freePorts(t, 3)
	knot, ours, admin := p[0], p[1], p[2]
	catalog := func(serial int, members ...string) {
		text := fmt.Sprintf("@ 0 SOA invalid. invalid. %d 3600 1 604800 0\n@ 0 NS invalid.\nversion 0 TXT \"2\"\n", serial)
		for _, m := range members {
			text += fmt.Sprintf("id%s.zones 0 PTR %s.test.\n", m, m)
		}
		write("catalog.test.zone", text)
	}
	catalog(1, "m1", "m2")
	config := fmt.Sprintf(`server:
  listen: 127.0.0.1@%[1]d
  rundir: %[2]q
  udp-workers: 1
  tcp-workers: 1
database:
  storage: %[2]q
remote:
  - id: nearcast
    address: 127.0.0.1@%[3]d
acl:
  - id: any
    address: 127.0.0.1
    action: transfer
template:
  - id: default
    acl: any
    notify: nearcast
    zonefile-load: difference
    journal-content: changes
zone:
`, knot, dir, ours)
	for _, m := range []string{"catalog", "m1", "m2", "m3"} {
		config += fmt.Sprintf("  - domain: %s.test\n    file: \"%s/%s.test.zone\"\n", m, dir, m)
		if m != "catalog" {
			write(m+".test.zone", fedZone(1, m))
		}
	}
	write("knot.conf", config)
	startServer(t, "knotd", knot, []string{"catalog.test.", "m1.test.", "m2.test.", "m3.test."}, "knotd", "-c", filepath.Join(dir, "knot.conf"))
	write("nearcast.yaml", fmt.Sprintf(`listen: {dns: [127.0.0.1:%d], admin: 127.0.0.1:%d}
zones:
  - name: catalog.test
    file: copies/catalog.test.zone
    primaries: [{address: "127.0.0.1:%d"}]
    catalog: {folder: copies}
`, ours, admin, knot))
	startServer(t, "nearcast", ours, []string{"m1.test.", "m2.test."}, bin, "serve", "-c", filepath.Join(dir, "nearcast.yaml"))

	rcode := func(name string) string {
		r, _, err := (&dns.Client{Timeout: queryTimeout}).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), fmt.Sprintf("127.0.0.1:%d", ours))
		if err != nil {
			return err.Error()
		}
		return dns.RcodeToString[r.Rcode]
	}
	if got := rcode("catalog.test."); got != "REFUSED" {
		t.Errorf("the catalog itself: %s", got)
	}
	catalog(2, "m2", "m3")
	if out, err := command("knotc", "-c", filepath.Join(dir, "knot.conf"), "zone-reload", "catalog.test"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"m1.test.": "REFUSED", "m2.test.": "NOERROR", "m3.test.": "NOERROR"} {
		if !within(deadline, func() bool { return rcode(name) == want }) {
			t.Errorf("%s: %s, want %s", name, rcode(name), want)
		}
	}
}
