package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

// places are the regions of a world; the n-th one's endpoint is at 10.0.n+1.80, its agents at 10.0.n+1.1 and so on, and its
// client is a network that is nearest to it.
var places = []struct {
	name, location, client string
	agents                 int
}{
	{"us-east", "[38.95, -77.45]", "128.112.0.0/16", 2},
	{"eu-west", "[53.35, -6.26]", "193.0.0.0/21", 1},
	{"ap-south", "[19.08, 72.88]", "117.192.0.0/16", 1},
	{"sa-east", "[-23.55, -46.63]", "200.160.0.0/20", 1},
}

// The regions of a world, by position in places.
const (
	usEast = iota
	euWest
	apSouth
	saEast
	noRegion = -1
)

// A world is a mesh on a lan: every director, every agent and every region's endpoint has a host of its own, and the clients
// have one. All of it is real processes but the endpoints and the clients, which are sockets of the test. Reports and orders are signed.
type world struct {
	*lan
	dir   string // a folder of each node is in it
	bin   string
	sites []*backend // the endpoints of places
	procs map[string]*process
	*traffic
}

const worldConfig = `
listen: {}
geo: {database: ../geo.mmdb}
mesh:
  key_file: mesh.key
  identity: node.key
  directors: [{{range .Directors}}"{{.}}", {{end}}]
  join: [{{range .Join}}"{{.}}:7946", {{end}}]
regions:
{{- range .Regions}}
  - {name: {{.Name}}, location: {{.Location}}, capacity: 100, agent_keys: [{{range .Keys}}"{{.}}", {{end}}]}
{{- end}}
zones:
  - name: geo.example.com
    file: geo.zone
    services:
      - name: www
        ttl: 30
        check: {type: http, port: 80, path: /healthz, interval: 1s, timeout: 500ms, fall: 2, rise: 2}
        regions:
        {{- range .Regions}}
          - {region: {{.Name}}, addresses: [{{.Endpoint}}]}
        {{- end}}
`

func directorAt(d int) string { return fmt.Sprintf("10.0.100.%d", d+1) }
func agentAt(region, k int) string {
	return fmt.Sprintf("10.0.%d.%d", region+1, k+1)
}
func endpointAt(region int) string { return fmt.Sprintf("10.0.%d.80", region+1) }

// diskSize is as mount takes it; the nodes' states are a few KB.
const diskSize = "size=1m"

const clientsAt = "10.0.200.1"

func directorName(d int) string      { return fmt.Sprintf("director-%d", d) }
func agentName(region, k int) string { return fmt.Sprintf("agent-%s-%d", places[region].name, k) }

// newWorld makes a network and starts everything in it; it returns when every director answers each client with its region.
func newWorld(t *testing.T, bin string) *world {
	t.Helper()
	w := &world{lan: newLAN(t), dir: t.TempDir(), bin: bin, procs: map[string]*process{}}
	w.writeFiles()
	w.addHosts()
	if err := errors.Join(os.Mkdir(w.disk(), 0o700), unix.Mount("tmpfs", w.disk(), "tmpfs", 0, diskSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	for r, p := range places {
		site := &backend{addr: endpointAt(r), port: 80, listen: w.hosts["endpoint-"+p.name].listen}
		w.sites = append(w.sites, site)
		if err := site.start(); err != nil {
			t.Fatal(err)
		}
		for k := range p.agents {
			w.startAgent(r, k)
		}
	}
	for d := range directors {
		w.startDirector(d)
	}
	w.until("all directors hear all agents, and answer each client with its region", func() bool {
		for d := range directors {
			for r := range places {
				if a := w.ask(d, r); !w.whole(d) || a.region != r {
					return false
				}
			}
		}
		return true
	})
	w.traffic = startTraffic(t, func(n int) answer { return w.ask(n%directors, n/directors%len(places)) })
	return w
}

func (w *world) addHosts() {
	w.add("clients", clientsAt)
	for d := range directors {
		w.add(directorName(d), directorAt(d))
	}
	for r, p := range places {
		w.add("endpoint-"+p.name, endpointAt(r))
		for k := range p.agents {
			w.add(agentName(r, k), agentAt(r, k))
		}
	}
}

// writeFiles gives each node a folder with its key and the configuration, which is the same for all.
func (w *world) writeFiles() {
	w.t.Helper()
	w.keygen("mesh", w.path("mesh.key"))
	gossip, err := os.ReadFile(w.path("mesh.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	writeDatabase(w.t, w.path("geo.mmdb"), clientPlaces())
	type region struct {
		Name, Location, Endpoint string
		Keys                     []string
	}
	var data struct {
		Join, Directors []string
		Regions         []region
	}
	var folders []string
	keyOf := func(name string) string {
		folders = append(folders, w.path(name))
		if err := os.Mkdir(w.path(name), 0o700); err != nil {
			w.t.Fatal(err)
		}
		return w.keygen("agent", filepath.Join(w.path(name), "node.key"))
	}
	for d := range directors {
		data.Join = append(data.Join, directorAt(d))
		data.Directors = append(data.Directors, keyOf(directorName(d)))
	}
	for r, p := range places {
		data.Join = append(data.Join, agentAt(r, 0))
		one := region{p.name, p.location, endpointAt(r), nil}
		for k := range p.agents {
			one.Keys = append(one.Keys, keyOf(agentName(r, k)))
		}
		data.Regions = append(data.Regions, one)
	}
	var config bytes.Buffer
	if err := template.Must(template.New("").Parse(worldConfig)).Execute(&config, data); err != nil {
		w.t.Fatal(err)
	}
	for _, folder := range folders {
		for name, text := range map[string][]byte{"mesh.key": gossip, "nearcast.yaml": config.Bytes(), "geo.zone": []byte(zoneText)} {
			if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// keygen makes a key and returns what of it is public.
func (w *world) keygen(kind, file string) string {
	w.t.Helper()
	out, err := command(w.bin, "keygen", kind, "--out", file)
	if err != nil {
		w.t.Fatalf("keygen: %v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// disk is the small disk on which all nodes have their state.
func (w *world) disk() string { return w.path("disk") }

// start starts a node on its host.
func (w *world) start(name, verb, addr string, args ...string) {
	w.t.Helper()
	args = append([]string{verb, "-c", filepath.Join(w.path(name), "nearcast.yaml"), "--name", name, "--state", filepath.Join(w.disk(), name), "--mesh", addr + ":7946"}, args...)
	cmd := exec.Command(w.bin, args...)
	cmd.Env = append(os.Environ(), "NEARCAST_CLOCK="+w.clock(name)) // for the program whose clock can be set off
	w.procs[name] = startProcess(w.t, w.path(name+".log"), cmd, w.hosts[name].do)
}

func (w *world) startAgent(region, k int) {
	w.t.Helper()
	w.start(agentName(region, k), "agent", agentAt(region, k), "--region", places[region].name)
}

func (w *world) startDirector(d int) {
	w.t.Helper()
	w.start(directorName(d), "serve", directorAt(d), "--dns", directorAt(d)+":53", "--admin", "127.0.0.1:8053")
}

// nodes are the names of all nodes that run.
func (w *world) nodes() []string { return slices.Collect(maps.Keys(w.procs)) }

// stop ends a node.
func (w *world) stop(name string, sig syscall.Signal) {
	w.t.Helper()
	if err := w.procs[name].end(sig); err != nil {
		w.t.Errorf("%s: %v", name, err)
	}
	delete(w.procs, name)
}

// signal sends a signal to a node.
func (w *world) signal(name string, sig syscall.Signal) {
	w.t.Helper()
	if err := w.procs[name].cmd.Process.Signal(sig); err != nil {
		w.t.Errorf("%s: %v", name, err)
	}
}

// verb runs a verb at a director, on its host.
func (w *world) verb(d int, args ...string) (string, error) {
	out, err := w.hosts[directorName(d)].command(w.bin, args...).CombinedOutput()
	return string(out), err
}

func (w *world) ask(d, client int) answer {
	return askOver(d, client, places[client].client, func() (net.Conn, error) {
		return w.hosts["clients"].dial("udp4", directorAt(d)+":53")
	})
}

// whole tells if a director hears every region, and has every node as a member.
func (w *world) whole(d int) bool {
	page, err := w.hosts[directorName(d)].get("127.0.0.1:8053", "/api/v1/status")
	_, body, ok := strings.Cut(page, "\r\n\r\n")
	var s status
	if err != nil || !ok || json.Unmarshal([]byte(body), &s) != nil {
		return false
	}
	heard := 0
	for _, r := range s.Regions {
		if r.State == "up" && !r.Held && s.checked(r.Name) {
			heard++
		}
	}
	return heard == len(places) && len(s.Members) == len(w.procs)
}

// suppressed is how many flips of a region's endpoints a director counts that changed no state.
func (w *world) suppressed(region int) (n int) {
	w.t.Helper()
	page, err := w.hosts[directorName(0)].get("127.0.0.1:8053", "/metrics")
	_, value, ok := strings.Cut(page, fmt.Sprintf("nearcast_region_suppressed_flips_total{region=%q} ", places[region].name))
	if _, bad := fmt.Sscan(value, &n); err != nil || !ok || bad != nil {
		w.t.Errorf("no count of suppressed flips: %v %v", err, bad)
	}
	return n
}

// look is the time between two looks at a world: each asks all directors.
const look = 100 * time.Millisecond

func (w *world) until(what string, met func() bool) {
	w.t.Helper()
	for begin := time.Now(); !met(); time.Sleep(look) {
		if time.Since(begin) > patience {
			w.t.Fatalf("not so within %v: %s", patience, what)
		}
	}
}

func (w *world) close() {
	for _, p := range w.procs {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // what a test left stopped
	}
	endAll(w.t, w.procs, w.dir)
	for _, s := range w.sites {
		s.stop()
	}
	if err := unix.Unmount(w.disk(), 0); err != nil {
		w.t.Error(err)
	}
}

// since are the answers that came in since mark, a number of answers.
func (tr *traffic) since(mark int) []answer {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.answers[mark:len(tr.answers):len(tr.answers)]
}

// mark is the number of answers so far.
func (tr *traffic) mark() int { return len(tr.since(0)) }
