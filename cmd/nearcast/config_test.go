package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nearcast/nearcast/healthmesh"
)

// patience is how long tests wait for what should come at once, on a machine that does much else.
const patience = 20 * time.Second

const testZone = `$ORIGIN geo.example.com.
$TTL 300
@ SOA ns1 hostmaster 1 3600 600 604800 30
@ NS ns1
ns1 A 192.0.2.1
alias CNAME www
child NS ns.child
ns.child A 192.0.2.4
`

// A good configuration; %s is put behind it.
const testConfig = `listen: {dns: ["127.0.0.1:0"]}
regions:
  - {name: us-east, location: [38.95, -77.45], capacity: 300}
  - {name: eu-west, location: [53.35, -6.26], capacity: 200}
zones:
  - name: geo.example.com
    file: geo.example.com.zone
    services:
      - name: www
        check: {type: http, port: 8080}
        regions:
          - {region: us-east, addresses: [127.0.1.1, "2001:db8:1::1"]}
          - {region: eu-west, addresses: [127.0.2.1]}
`

// layout writes files into a new folder and returns the path of nearcast.yaml.
func layout(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "nearcast.yaml")
}

// The example is good as it stands, for directors and agents.
func TestExample(t *testing.T) {
	path := "../../deploy/example/nearcast.yaml"
	l, err := source{path: path}.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.forServe(); err != nil {
		t.Error(err)
	}
	if len(l.Set.Services) != 1 || len(l.Set.Regions) != 3 || l.table == nil || len(l.Files) != 3 {
		t.Errorf("%d services, %d regions, files %v", len(l.Set.Services), len(l.Set.Regions), l.Files)
	}
	a, err := source{path: path, agent: "eu-west"}.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, target := range a.targets("eu-west") {
		names = append(names, target.Name)
	}
	if want := []string{"www.geo.example.com. 127.0.2.1", "www.geo.example.com. 2001:db8:2::1"}; !slices.Equal(names, want) || a.table != nil {
		t.Errorf("an agent of eu-west checks %v, want %v; and needs no geography", names, want)
	}
}

func TestMinimal(t *testing.T) {
	path := layout(t, map[string]string{"nearcast.yaml": "listen: {dns: 127.0.0.1:0}\nzones:\n  - {name: geo.example.com, file: z}\n", "z": testZone})
	l, err := source{path: path}.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.forServe(); err != nil {
		t.Error(err)
	}
}

// Each mistake is one line that says where, what, and what is accepted; all of a file come together.
func TestProblems(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(testConfig, old, new, 1) }
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"unknown keys": {with("location:", "lokation:") + "geos: 1\n", []string{
			`:3: regions[0].lokation: unknown key; accepted: agent_keys, backends, bias_km, capacity, load, location, max_capacity, name`, `:3: regions[0].location: []; accepted: [latitude`, `:14: geos: unknown key; accepted: `}},
		"a key twice":        {with("check:", "ttl: 5\n        ttl: 6\n        check:"), []string{`:11: zones[0].services[0].ttl: a second time; accepted: each key once; it stands in line 10`}},
		"wrong types":        {with("300", "much") + "mesh: {beat: 5, listen: true}\n", []string{`:14: mesh.beat: 5; accepted: a duration`, `:14: mesh.listen: true; accepted: text`, `:3: regions[0].capacity: much; accepted: a number`}},
		"a list for a map":   {"- 1\n", []string{`:1: a list; accepted: a mapping of `}},
		"no YAML":            {"zones: [\n", []string{`nearcast.yaml: yaml: line`}},
		"unknown region":     {with("region: eu-west", "region: mars"), []string{`:13: zones[0].services[0].regions[1].region: mars; accepted: a region of this file`}},
		"a region twice":     {with("name: eu-west", "name: us-east"), []string{`:4: regions[1].name: us-east; accepted: each region once`, `region: eu-west; accepted: a region of this file`}},
		"a service twice":    {with("      - name: www", "      - name: www\n        regions: [{region: us-east, addresses: [127.0.0.1]}]\n      - name: www"), []string{`:11: zones[0].services[1].name: www; accepted: each service once`}},
		"no address":         {with("127.0.2.1", "127.0.2"), []string{`:13: zones[0].services[0].regions[1].addresses[0]: 127.0.2; accepted: an IPv4 or IPv6 address`}},
		"coordinates":        {with("53.35", "153.35"), []string{`:4: regions[1].location: [153.35 -6.26]; accepted: [latitude, longitude] in degrees`}},
		"capacity":           {with("200", "-1"), []string{`:4: regions[1].capacity: -1; accepted: a number above 0`}},
		"capacity 0":         {with("200", "0"), []string{`:4: regions[1].capacity: 0; accepted: a number above 0`}},
		"beside a CNAME":     {with("name: www", "name: alias"), []string{`:9: zones[0].services[0].name: alias; accepted: a name without CNAME`}},
		"under a delegation": {with("name: www", "name: x.child"), []string{`:9: zones[0].services[0].name: x.child; accepted: a name that is not delegated`}},
		"load":               {with("capacity: 200", "capacity: 200, load: {type: varnish, url: 'http://127.0.0.1/', smooth: 0s}"), []string{`:4: regions[1].load.type: varnish; accepted: json, prometheus, haproxy, nginx, envoy, cpu or memory`, `:4: regions[1].load.smooth: 0s; accepted: a duration above 0`}},
		"load's labels":      {with("capacity: 200", "capacity: 200, load: {metric: busy, url: 'http://127.0.0.1/', labels: {pool: a}}"), []string{`:4: regions[1].load.labels: a mapping; accepted: a list`}},
		"backends": {with("capacity: 200", "capacity: 200, max_capacity: 100, backends: {file: b.json, dns: web, port: 80, capacity: 50, min_live: 101}"), []string{
			`:4: regions[1].backends: 2 sources; accepted: one of static, dns and file`, `:4: regions[1].backends.min_live: 101; accepted: 1 to 100`, `:4: regions[1].max_capacity: 100; accepted: a number from the region's capacity on`}},
		"no zone file":         {with("file: geo.example.com.zone", "file: gone"), []string{`:7: zones[0].file: gone: no such file`}},
		"no SOA":               {with("file: geo.example.com.zone", "file: nosoa"), []string{`:7: zones[0].file: nosoa: no SOA`, `:7: zones[0].file: nosoa: no NS`}},
		"outside the zone":     {with("file: geo.example.com.zone", "file: outside"), []string{`:7: zones[0].file: outside:9: `}},
		"DNS address":          {with("127.0.0.1:0", "localhost:53"), []string{`:1: listen.dns[0]: localhost:53; accepted: "address:port"`}},
		"no database":          {testConfig + "geo: {database: gone.mmdb}\n", []string{`:14: geo.database: gone.mmdb: `}},
		"two databases":        {testConfig + "geo: {database: [gone.mmdb, nosoa]}\n", []string{`:14: geo.database[0]: gone.mmdb: `, `:14: geo.database[1]: nosoa: not a MaxMind DB`}},
		"an override":          {testConfig + "geo: {overrides: o.csv}\n", []string{`:14: geo.overrides: o.csv:2: "mars"; accepted: a region of the configuration file`}},
		"check":                {with("type: http", "type: htp"), []string{`:10: zones[0].services[0].check.type: htp; accepted: http, https, http2, tcp, tls, dns, grpc, icmp or exec`}},
		"gossip without a key": {testConfig + "mesh: {listen: 192.0.2.1:7946}\n", []string{`:14: mesh.key_file: ""; accepted: a key file`}},
		"a token too short":    {testConfig + "admin_token_file: token\n", []string{`:14: admin_token_file: `}},
		"copies beside this":   {testConfig + "  - {name: fed.example.com, file: fed.zone, primaries: [{address: '192.0.2.1:53'}]}\n", []string{`, which has `}},
		"copies above this":    {testConfig + "  - {name: fed.example.com, file: ../fed.zone, primaries: [{address: '192.0.2.1:53'}]}\n", []string{`; accepted: copies need a folder of their own`}},
		"copies by a link":     {testConfig + "  - {name: list.example.com, file: copies/list.zone, primaries: [{address: '192.0.2.1:53'}], catalog: {folder: link}}\n", []string{`:14: zones[1].catalog.folder: `}},
		"a token not there":    {testConfig + "admin_token_file: gone\n", []string{`:14: admin_token_file: `}},
	} {
		t.Run(name, func(t *testing.T) {
			path := layout(t, map[string]string{
				"nearcast.yaml": c.config, "geo.example.com.zone": testZone, "nosoa": "@ 300 IN A 192.0.2.1\n", "token": "short\n",
				"outside": testZone + "www.example.org. A 192.0.2.1\n", "o.csv": "# who\n192.0.2.0/24,mars\n",
			})
			if err := os.Symlink(".", filepath.Join(filepath.Dir(path), "link")); err != nil {
				t.Fatal(err)
			}
			_, err := source{path: path}.load(nil)
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			for _, want := range c.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, want) }) {
					t.Errorf("no %q in\n%s", want, err)
				}
			}
			if len(lines) != len(c.want) {
				t.Errorf("%d problems, want %d:\n%s", len(lines), len(c.want), err)
			}
		})
	}
}

func TestAgentsNeeds(t *testing.T) {
	path := layout(t, map[string]string{"nearcast.yaml": testConfig, "geo.example.com.zone": testZone})
	_, err := source{path: path, agent: "mars"}.load(nil)
	want := []string{`mesh.listen: ""; accepted: an address for gossip, here or as --mesh`, `--region: mars; accepted: one of us-east, eu-west`}
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v, want %s", err, w)
		}
	}
	over := overrides{mesh: "127.0.0.1:0"}
	if _, err := (source{path: path, agent: "us-east", over: over}).load(nil); err != nil {
		t.Errorf("with --mesh: %v", err)
	}
}

// The table is compiled again if what it is made from changed, and only then.
func TestTableIsTakenOver(t *testing.T) {
	path := layout(t, map[string]string{
		"nearcast.yaml": testConfig + "geo: {overrides: o.csv}\n", "geo.example.com.zone": testZone, "o.csv": "192.0.2.0/24,us-east\n",
	})
	from := source{path: path}
	a, err := from.load(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := from.load(a)
	if err != nil || b.table != a.table {
		t.Fatalf("nothing changed, and the table did: %v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "o.csv"), []byte("192.0.2.0/24,eu-west # moved\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := from.load(b)
	if err != nil || c.table == b.table {
		t.Errorf("the overrides changed, and the table did not: %v", err)
	}
}

// A watcher tells of a file that is written, replaced, or reached by a link that moves, and of no other.
func TestWatch(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "v1", "v2"} {
		write(name, name)
	}
	if err := os.Symlink("v1", file("link")); err != nil {
		t.Fatal(err)
	}
	files := []string{file("a"), file("link")}
	w, err := watchFiles(files, stampFiles(files), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	changed := func(what string) {
		t.Helper()
		select {
		case <-w.Changed():
		case <-time.After(patience):
			t.Fatal("not told: " + what)
		}
	}
	write("a", "written")
	changed("written")
	write("new", "replaced by another")
	if err := os.Rename(file("new"), file("a")); err != nil {
		t.Fatal(err)
	}
	changed("replaced")
	if err := os.Symlink("v2", file("new")); err != nil {
		t.Fatal(err)
	}
	write("v2", "of another size")
	if err := os.Rename(file("new"), file("link")); err != nil {
		t.Fatal(err)
	}
	changed("a link that moves")
	write("b", "not watched")
	select {
	case <-w.Changed():
		t.Error("told of a file that is not watched")
	case <-time.After(2 * settle):
	}
	w.Watch([]string{file("b")}, "")
	changed("another list")
	write("b", "watched now")
	changed("another file")
	now := stampFiles([]string{file("a")})
	w.Watch([]string{file("a")}, now)
	select {
	case <-w.Changed():
		t.Error("told of a file that is as it was read")
	case <-time.After(2 * settle):
	}
	write("a", "changed while it was read")
	changed("a change after the reading")
	w.Watch([]string{file("a")}, now)
	changed("a change between the reading and the watching")
}

// Every verb has an example and says what it is for.
func TestVerbsHaveExamples(t *testing.T) {
	verbs := newRoot().Commands()
	for len(verbs) > 0 {
		c := verbs[0]
		verbs = append(verbs[1:], c.Commands()...)
		if c.Parent() != nil && c.Parent().Name() == "completion" || c.Name() == "help" {
			continue // cobra's own
		}
		if c.Short == "" || !strings.Contains(c.Example, "nearcast "+strings.TrimPrefix(c.CommandPath(), "nearcast ")) && c.Name() != "completion" {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
	}
}

func TestSplitKey(t *testing.T) {
	if got := fmt.Sprint(splitKey("zones[0].services[12].ttl")); got != "[zones 0 services 12 ttl]" {
		t.Error(got)
	}
}

// Of each key of the mesh that a reload does not put in use, there is a warning; of those that it does, there is none.
func TestFixedKeys(t *testing.T) {
	witnesses := 5
	for want, change := range map[string]func(*healthmesh.Config){
		"mesh.listen":    func(c *healthmesh.Config) { c.Listen = "127.0.0.1:1" },
		"mesh.advertise": func(c *healthmesh.Config) { c.Advertise = "127.0.0.1:1" },
		"mesh.join":      func(c *healthmesh.Config) { c.Join = []string{"127.0.0.1:1"} },
		"mesh.label":     func(c *healthmesh.Config) { c.Label = "other" },
		"mesh.beat":      func(c *healthmesh.Config) { c.Beat = time.Minute },
		"mesh.lease":     func(c *healthmesh.Config) { c.Lease = time.Minute },
		"":               func(c *healthmesh.Config) { c.Witnesses, c.Directors = &witnesses, []string{"key"} },
	} {
		old, next := new(loaded), new(loaded)
		change(&next.Mesh)
		var changed []string
		for key, same := range old.fixed(next) {
			if !same {
				changed = append(changed, key)
			}
		}
		if got := strings.Join(changed, " "); got != want {
			t.Errorf("warned of %q, want %q", got, want)
		}
	}
}
