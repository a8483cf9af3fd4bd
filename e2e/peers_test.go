package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A peer is an authoritative server that nearcast is compared with. Each is started on a loopback port of its own,
// with a configuration that serves the zones and does nothing else.
type peer struct {
	name    string // as need knows it, and the program's
	command func(config string) []string
	config  func(dir string, port int, zones []string) string
	port    int
}

// zoneFile is the file of a zone in the folder of a test's zones.
func zoneFile(zone string) string { return zone + "zone" }

// eachZone is the text that format makes of each zone and its file.
func eachZone(dir string, zones []string, format string) string {
	var b strings.Builder
	for _, zone := range zones {
		fmt.Fprintf(&b, format, zone, filepath.Join(dir, zoneFile(zone)))
	}
	return b.String()
}

// peers are NSD, Knot DNS, BIND and PowerDNS.
func peers() []*peer {
	return []*peer{
		{name: "nsd", command: func(config string) []string { return []string{"-d", "-c", config} },
			config: func(dir string, port int, zones []string) string {
				return fmt.Sprintf(`server:
  ip-address: 127.0.0.1@%d
  server-count: 1
  username: ""
  zonesdir: %[2]q
  pidfile: ""
  database: ""
  xfrdfile: "%[2]s/xfrd.state"
  zonelistfile: "%[2]s/zone.list"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
`, port, dir) + eachZone(dir, zones, "zone:\n  name: %q\n  zonefile: %q\n")
			}},
		{name: "knotd", command: func(config string) []string { return []string{"-c", config} },
			config: func(dir string, port int, zones []string) string {
				return fmt.Sprintf(`server:
  listen: 127.0.0.1@%d
  rundir: %[2]q
  udp-workers: 1
  tcp-workers: 1
database:
  storage: %[2]q
log:
  - target: stderr
    any: warning
template:
  - id: default
    journal-content: none
    semantic-checks: off
zone:
`, port, dir) + eachZone(dir, zones, "  - domain: %q\n    file: %q\n")
			}},
		{name: "named", command: func(config string) []string { return []string{"-g", "-n", "1", "-c", config} },
			config: func(dir string, port int, zones []string) string {
				return fmt.Sprintf(`options {
  directory %q;
  listen-on port %d { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  pid-file none;
  session-keyfile none;
  notify no;
  allow-transfer { none; };
  empty-zones-enable no;
  dnssec-validation no;
  check-names primary ignore;
  check-integrity no;
};
controls { };
`, dir, port) + eachZone(dir, zones, "zone %q { type primary; file %q; };\n")
			}},
		{name: "pdns_server", command: func(config string) []string {
			return []string{"--config-dir=" + filepath.Dir(config), "--config-name=peer"}
		},
			config: func(dir string, port int, zones []string) string {
				list := filepath.Join(dir, "pdns.zones")
				if err := os.WriteFile(list, []byte(eachZone(dir, zones, "zone %q { type master; file %q; };\n")), 0o600); err != nil {
					panic(err)
				}
				return fmt.Sprintf(`daemon=no
guardian=no
launch=bind
bind-config=%s
local-address=127.0.0.1
local-port=%d
socket-dir=%s
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
dname-processing=yes
loglevel=3
`, list, port, dir)
			}},
	}
}

// peerConfig is the name of a peer's configuration; PowerDNS finds the one named peer by this.
const peerConfig = "pdns-peer.conf"

// peerStart bounds the start of a peer until it serves all zones.
const peerStart = 30 * time.Second

// start starts a peer that serves the zones whose files are in dir, until the test ends.
func (p *peer) start(t *testing.T, dir string, zones []string) {
	t.Helper()
	own := t.TempDir() // what one peer writes is none of another's
	for _, zone := range zones {
		text, err := os.ReadFile(filepath.Join(dir, zoneFile(zone)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, zoneFile(zone)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.port = freePorts(t, 1)[0]
	config := filepath.Join(own, peerConfig)
	if err := os.WriteFile(config, []byte(p.config(own, p.port, zones)), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, p.name, p.port, zones, p.name, p.command(config)...)
}

// command runs a program to its end.
func command(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(out), err
}

// startServer starts a name server and waits until it serves all zones. It is killed by stop, or when the test ends.
func startServer(t *testing.T, name string, port int, zones []string, program string, args ...string) (stop func()) {
	t.Helper()
	return startCommand(t, name, exec.Command(program, args...), zones, func(q *dns.Msg) (*dns.Msg, error) {
		r, _, err := (&dns.Client{Timeout: queryTimeout}).Exchange(q, fmt.Sprintf("127.0.0.1:%d", port))
		return r, err
	})
}

// outputLog is what a program writes, to be read while it runs.
type outputLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *outputLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *outputLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startCommand starts a name server and waits until it answers for all zones, as ask asks it. It is killed by stop,
// or when the test ends.
func startCommand(t *testing.T, name string, cmd *exec.Cmd, zones []string, ask func(*dns.Msg) (*dns.Msg, error)) (stop func()) {
	t.Helper()
	log, ok := cmd.Stderr.(*outputLog)
	if !ok {
		log = new(outputLog)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	t.Cleanup(stop)
	for _, zone := range zones {
		served := within(peerStart, func() bool {
			select {
			case <-ended:
				return true
			default:
			}
			r, err := ask(new(dns.Msg).SetQuestion(zone, dns.TypeSOA))
			return err == nil && r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0
		})
		select {
		case <-ended:
			served = false
		default:
		}
		if !served {
			stop()
			t.Fatalf("%s does not serve %s:\n%s", name, zone, tail([]byte(log.String()), 3000))
		}
	}
	return stop
}
