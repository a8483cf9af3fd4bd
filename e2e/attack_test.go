package e2e

import (
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
)

// patience bounds the wait for a condition of a server under attack, and settleTime is a pause between two looks at it.
const (
	patience   = 90 * time.Second
	settleTime = 500 * time.Millisecond
)

// victim is a director in a namespace, whose clients have no network without a limit.
type victim struct {
	*internet
	log outputLog
}

// memory is what a process holds of memory, in octets.
type memory struct {
	resident    int
	inUse       int // after the last collection
	collections int
}

// memory asks the director what it holds.
func (v *victim) memory() (m memory) {
	v.t.Helper()
	m.resident = v.metric("process_resident_memory_bytes")
	m.inUse = v.metric("go_memstats_next_gc_bytes") / 2 // the collector lets it double
	m.collections = v.metric("go_gc_duration_seconds_count")
	return m
}

func (v *victim) metric(series string) int {
	v.t.Helper()
	text, err := v.get(ourAdmin, "/metrics")
	if err != nil {
		v.t.Fatal(err)
	}
	return int(metricIn(v.t, text, series))
}

// until waits for a condition.
func (v *victim) until(what string, holds func() bool) {
	v.t.Helper()
	if !within(patience, holds) {
		v.t.Fatalf("not so within %v: %s", patience, what)
	}
}

// newVictim starts a director with every port that it can have.
func newVictim(t *testing.T) *victim {
	t.Helper()
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{internet: &internet{newNamespace(t), t, t.TempDir()}}
	// What is sent to forged sources leaves, to a bridge without a port.
	v.ip(t, "link add away type bridge", "link set away arp off up", "route add "+forgedNetwork+" dev away table local src 44.0.2.1")
	script, err := txtar.ParseFile("testdata/script/dns.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range script.Files {
		if strings.HasSuffix(f.Name, ".pem") {
			v.write(v.dir, f.Name, string(f.Data))
		}
	}
	if out, err := command(bin, "keygen", "mesh", "--out", filepath.Join(v.dir, "mesh.key")); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	v.write(v.dir, "geo.zone", "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 44.0.2.1\n")
	v.write(v.dir, "nearcast.yaml", `listen: {dns: "44.0.2.1:53", tls: "44.0.2.1:853", admin: "44.0.2.1:8053"}
dns:
  tls: {certificate: cert.pem, key: key.pem}
  proxy_from: [60.1.0.0/16]
mesh: {listen: "44.0.2.1:7946", key_file: mesh.key}
regions:
  - {name: us-east, location: [38.95, -77.45], capacity: 300}
  - {name: eu-west, location: [53.35, -6.26], capacity: 200}
zones:
  - name: geo.example.com
    file: geo.zone
    services:
      - name: www
        regions:
          - {region: us-east, addresses: [192.0.2.101]}
          - {region: eu-west, addresses: [192.0.2.102]}
`)
	cmd := v.command(bin, "serve", "-c", filepath.Join(v.dir, "nearcast.yaml"))
	cmd.Stderr = &v.log
	startCommand(t, "nearcast", cmd, []string{"geo.example.com."}, v.asker(ourServer))
	return v
}

// enterOwnThread runs f on a thread of its own in the namespace.
func (n *namespace) enterOwnThread(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		runtime.LockOSThread()
		if n.enter() == nil {
			f()
		}
	})
}

func (v *victim) lookup(name string) string {
	return lastData(v.ask(netip.MustParseAddr("60.0.1.1"), ourServer, new(dns.Msg).SetQuestion(name, dns.TypeA)))
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// dialFrom connects an address with a port of the server. The thread must be in the namespace.
func dialFrom(from netip.Addr, tcp bool, port uint16) (net.Conn, error) {
	local, server := netip.AddrPortFrom(from, 0), netip.AddrPortFrom(ourServer, port)
	if !tcp {
		return net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(server))
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Timeout: time.Second}
	return d.Dial("tcp4", server.String())
}
