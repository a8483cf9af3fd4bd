package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// regions of the clusters under test; the n-th one's backends are at 127.0.n+1.1 to .3,
// and its client is a network that is nearest to it.
var regions = []struct{ name, location, client string }{
	{"us-east", "[38.95, -77.45]", "128.112.0.0/16"},
	{"eu-west", "[53.35, -6.26]", "193.0.0.0/21"},
	{"ap-south", "[19.08, 72.88]", "117.192.0.0/16"},
}

const (
	directors  = 2
	backendsOf = 3
	deadline   = 30 * time.Second // for a condition that a working cluster meets in a few
)

// The check of the cluster's service, and the time in which it sees a failure or a recovery.
const (
	interval   = time.Second
	timeout    = 500 * time.Millisecond
	fall       = 2
	holdDown   = 5 * time.Second // the default
	fallWindow = fall*interval + timeout
	riseWindow = holdDown + interval + timeout // longer than rise checks
)

// A cluster is directors, agents and backends as real processes and sockets on loopback.
type cluster struct {
	t        *testing.T
	dir      string
	bin      string
	http     int
	dns      []int
	admin    []int
	mesh     []int // directors', then agents'
	backends [][]*backend
	procs    map[string]*process
}

const configText = `
listen: {}
state: state
mesh:
  join: [{{range .Mesh}}"127.0.0.1:{{.}}", {{end}}]
regions:
{{- range .Regions}}
  - {name: {{.Name}}, location: {{.Location}}, capacity: 100}
{{- end}}
zones:
  - name: geo.example.com
    file: geo.example.com.zone
    services:
      - name: www
        ttl: 30
        check: {type: http, port: {{.HTTP}}, path: /healthz, interval: 1s, timeout: 500ms, fall: 2, rise: 2}
        regions:
        {{- range .Regions}}
          - {region: {{.Name}}, addresses: [{{range .Addresses}}"{{.}}", {{end}}]}
        {{- end}}
`

const zoneText = `$ORIGIN geo.example.com.
$TTL 300
@ SOA ns1 hostmaster 1 3600 600 604800 30
@ NS ns1
ns1 A 127.0.0.1
info TXT "static"
`

// newCluster lays out a cluster of free ports, with its backends up and no process yet.
func newCluster(t *testing.T, build func() (string, error)) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster of processes; left out by -short")
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := freePorts(t, 2*directors+directors+len(regions)+1)
	c := &cluster{
		t: t, dir: t.TempDir(), bin: path, http: p[0], dns: p[1 : 1+directors], admin: p[1+directors : 1+2*directors],
		mesh: p[1+2*directors:], procs: map[string]*process{},
	}
	c.startBackends()
	c.write("geo.example.com.zone", zoneText)
	c.writeConfig()
	t.Cleanup(c.close)
	return c
}

// freePorts finds ports that are free for UDP and TCP on loopback.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer u.Close()
		ports = append(ports, port)
	}
	return ports
}

func (c *cluster) write(name, text string) {
	c.t.Helper()
	tmp := filepath.Join(c.dir, "."+name+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, name)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) writeConfig() {
	type region struct {
		Name, Location string
		Addresses      []string
	}
	data := struct {
		HTTP    int
		Mesh    []int
		Regions []region
	}{HTTP: c.http, Mesh: c.mesh}
	for i, r := range regions {
		one := region{Name: r.name, Location: r.location}
		for _, b := range c.backends[i] {
			one.Addresses = append(one.Addresses, b.addr)
		}
		data.Regions = append(data.Regions, one)
	}
	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(configText)).Execute(&text, data); err != nil {
		c.t.Fatal(err)
	}
	c.write("nearcast.yaml", text.String())
}

// A process is one running binary; its log goes to a file and to the test's if it fails.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed once it has ended
}

func (c *cluster) start(name string, args ...string) *process {
	c.t.Helper()
	p := startProcess(c.t, filepath.Join(c.dir, name+".log"), exec.Command(c.bin, args...), func(f func()) { f() })
	c.procs[name] = p
	return p
}

// startProcess has in start a program, whose output is added to a log.
func startProcess(t *testing.T, log string, cmd *exec.Cmd, in func(func())) *process {
	t.Helper()
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// No process outlives the test, even one that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if in(func() { err = p.cmd.Start() }); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is for the test to judge
		out.Close()
		close(p.done)
	}()
	return p
}

// end sends a signal and waits for the end.
func (p *process) end(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(deadline):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("it does not end on %v", sig)
	}
}

func (c *cluster) startDirector(i int) *process {
	return c.start(fmt.Sprintf("director-%d", i), "serve", "-c", filepath.Join(c.dir, "nearcast.yaml"),
		"--dns", fmt.Sprintf("127.0.0.1:%d", c.dns[i]), "--admin", fmt.Sprintf("127.0.0.1:%d", c.admin[i]),
		"--mesh", fmt.Sprintf("127.0.0.1:%d", c.mesh[i]))
}

func (c *cluster) startAgent(i int) *process {
	return c.start("agent-"+regions[i].name, "agent", "-c", filepath.Join(c.dir, "nearcast.yaml"),
		"--region", regions[i].name, "--mesh", fmt.Sprintf("127.0.0.1:%d", c.mesh[directors+i]))
}

// startAll starts every process, and returns when every director answers each client with its region.
func (c *cluster) startAll() {
	c.t.Helper()
	for i := range regions {
		c.startAgent(i)
	}
	for i := range directors {
		c.startDirector(i)
	}
	for d := range directors {
		c.waitHeard(d, len(regions))
		for r := range regions {
			c.waitAnswer(d, r, r)
		}
	}
}

// waitHeard returns when a director has fresh evidence of n regions, and of all their endpoints.
func (c *cluster) waitHeard(d, n int) {
	c.t.Helper()
	c.until(fmt.Sprintf("director %d hears %d regions", d, n), func() bool {
		s, err := c.status(d)
		if err != nil {
			return false
		}
		up := 0
		for _, r := range s.Regions {
			if r.State == "up" && !r.Held && s.checked(r.Name) {
				up++
			}
		}
		return up == n
	})
}

// waitAnswer returns when a director answers the client of one region with another region.
func (c *cluster) waitAnswer(d, client, want int) {
	c.t.Helper()
	c.until(fmt.Sprintf("director %d answers %s with %s", d, regions[client].client, regions[want].name), func() bool {
		a := c.ask(d, client)
		return a.err == nil && a.region == want
	})
}

// until waits for a condition.
func (c *cluster) until(what string, met func() bool) {
	c.t.Helper()
	if !within(deadline, met) {
		c.t.Fatalf("not so within %v: %s", deadline, what)
	}
}

func within(d time.Duration, met func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if met() {
			return true
		}
	}
	return met()
}

// stop sends a signal and waits for the end.
func (c *cluster) stop(name string, sig syscall.Signal) {
	c.t.Helper()
	p := c.procs[name]
	if p == nil {
		c.t.Fatalf("no process %s", name)
	}
	delete(c.procs, name)
	if err := p.end(sig); err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
}

func (c *cluster) close() {
	endAll(c.t, c.procs, c.dir)
	for _, of := range c.backends {
		for _, b := range of {
			b.stop()
		}
	}
}

// endAll ends processes as an operator would, and reads the logs of the folder.
func endAll(t *testing.T, procs map[string]*process, dir string) {
	for name, p := range procs {
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s has %q", filepath.Base(log), bad)
			}
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(log), tail(text, 6000))
		}
	}
}

func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

// A backend is a real HTTP server that can be taken down and brought back.
type backend struct {
	addr    string
	port    int
	listen  func(network, addr string) (net.Listener, error)
	failing atomic.Bool // it answers with an error
	mu      sync.Mutex
	srv     *http.Server // nil while down
}

func (c *cluster) startBackends() {
	for i := range regions {
		var of []*backend
		for k := range backendsOf {
			b := &backend{addr: netip.AddrFrom4([4]byte{127, 0, byte(i + 1), byte(k + 1)}).String(), port: c.http, listen: net.Listen}
			if err := b.start(); err != nil {
				c.t.Fatal(err)
			}
			of = append(of, b)
		}
		c.backends = append(c.backends, of)
	}
}

func (b *backend) start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.srv != nil {
		return nil
	}
	ln, err := b.listen("tcp", net.JoinHostPort(b.addr, fmt.Sprint(b.port)))
	if err != nil {
		return err
	}
	b.srv = &http.Server{Handler: b, ReadHeaderTimeout: deadline}
	go b.srv.Serve(ln) //nolint:errcheck // ends when stop closes it
	return nil
}

func (b *backend) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if b.failing.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (b *backend) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.srv != nil {
		b.srv.Close()
		b.srv = nil
	}
}

// failRegion takes down all of a region's backends; healRegion brings them back.
func (c *cluster) failRegion(i int) {
	for _, b := range c.backends[i] {
		b.stop()
	}
}

func (c *cluster) healRegion(i int) {
	c.t.Helper()
	for _, b := range c.backends[i] {
		if err := b.start(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// run runs one verb to its end.
func (c *cluster) run(args ...string) (string, error) {
	out, err := exec.Command(c.bin, args...).CombinedOutput()
	return string(out), err
}
