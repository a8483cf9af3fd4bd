package healthmesh

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// write writes a file in place.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace writes a file beside it and renames it.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// link makes path a link to target, in place of what is there.
func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// However a file is changed, what is read is a list that was there twice in a row, or an error.
func TestFileRoster(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backends.yaml")
	read := fileRoster(path)
	const one, two = "- targets: [a:1]\n", "- targets: [a:1]\n- targets: [b:2]\n"
	for _, step := range []struct {
		name string
		do   func()
		want []string // of the readings after it
	}{
		{"not there", func() {}, []string{"no such file", "no such file"}},
		{"written", func() { write(t, path, two) }, []string{"changed since", "[{a:1 0} {b:2 0}]", "[{a:1 0} {b:2 0}]"}},
		{"cut off while it is written", func() { write(t, path, one) }, []string{"changed since"}},
		{"which goes on", func() { write(t, path, two+one) }, []string{"changes from each reading", "[{a:1 0} {b:2 0}]"}},
		{"renamed over it", func() { replace(t, path, one) }, []string{"changed since", "[{a:1 0}]"}},
		{"bad", func() { replace(t, path, "- targets: [b:2\n") }, []string{"changed since", "yaml:"}},
		{"empty", func() { write(t, path, "") }, []string{"changed since", "there is no list"}},
		{"good again", func() { write(t, path, two) }, []string{"changed since", "[{a:1 0} {b:2 0}]"}},
		{"gone", func() { os.Remove(path) }, []string{"no such file"}},
		{"the same again", func() { write(t, path, two) }, []string{"changed since", "[{a:1 0} {b:2 0}]"}},
		{"an empty list", func() { write(t, path, "[]") }, []string{"changed since", "[]"}},
		{"a folder", func() { os.Remove(path); os.Mkdir(path, 0o700) }, []string{"not a regular file"}},
		{"too large", func() { os.Remove(path); write(t, path, strings.Repeat("#", maxRosterFile+1)) }, []string{"more than 1048576 bytes"}},
	} {
		step.do()
		for i, want := range step.want {
			if got := readOnce(t, read); !strings.Contains(got, want) {
				t.Fatalf("%s, reading %d: %s, want %s", step.name, i+1, got, want)
			}
		}
	}
}

// A volume of Kubernetes: the file is a link into a folder that is itself a link, which is switched.
func TestFileRosterInVolume(t *testing.T) {
	dir := t.TempDir()
	for version, text := range map[string]string{"..1": `[{"targets": ["a:1"]}]`, "..2": `[{"targets": ["b:2"]}]`} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "backends.json"), text)
	}
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "backends.json"), filepath.Join(dir, "backends.json"))
	read := fileRoster(filepath.Join(dir, "backends.json"))
	for _, step := range []struct{ version, want string }{{"..1", "[{a:1 0}]"}, {"..2", "[{b:2 0}]"}, {"..1", "[{a:1 0}]"}} {
		link(t, step.version, filepath.Join(dir, "..data"))
		readOnce(t, read)
		if got := readOnce(t, read); got != step.want {
			t.Errorf("version %s: %s, want %s", step.version, got, step.want)
		}
	}
}

func readOnce(t *testing.T, read roster) string {
	t.Helper()
	all, err := read(t.Context())
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(all)
}

// A nameserver answers over UDP and TCP with the records and the rcode that a test sets.
type nameserver struct {
	addr string

	mu      sync.Mutex
	records []dns.RR
	rcodes  map[uint16]int // by type of the question; missing: NOERROR
}

func newNameserver(t *testing.T) *nameserver {
	t.Helper()
	n := &nameserver{}
	l, conn, err := listenBoth()
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	for _, s := range []*dns.Server{{PacketConn: conn, Handler: n}, {Listener: l, Handler: n}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return n
}

// listenBoth listens at a free port of TCP and UDP: one that TCP has free can be taken by a client's socket of UDP, so some are tried.
func listenBoth() (l net.Listener, pc net.PacketConn, err error) {
	for range 10 {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, pc, nil
		}
		l.Close()
	}
	return nil, nil, err
}

// set makes the records all there are, and gives types of questions an rcode.
func (n *nameserver) set(t *testing.T, rcodes map[uint16]int, records ...string) {
	t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records, n.rcodes = all, rcodes
}

func (n *nameserver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer := new(dns.Msg).SetReply(query)
	answer.Authoritative = true
	q, exists := query.Question[0], false
	for _, rr := range n.records {
		if !strings.EqualFold(rr.Header().Name, q.Name) {
			continue
		}
		exists = true
		if rr.Header().Rrtype == q.Qtype {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	if !exists {
		answer.Rcode = dns.RcodeNameError
	}
	if rcode, ok := n.rcodes[q.Qtype]; ok {
		answer.Answer, answer.Rcode = nil, rcode
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		answer.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(answer)
}

// A name's addresses or SRV records are the list. What does not resolve in whole is an error.
func TestDNSRoster(t *testing.T) {
	n := newNameserver(t)
	addresses := dnsRoster(BackendsConfig{DNS: "web.example.com.", Port: 80, Server: n.addr})
	services := dnsRoster(BackendsConfig{DNS: "_web._tcp.example.com.", Server: n.addr})
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("web.example.com. A 10.0.0.%d", i))
	}
	srv := []string{
		"_web._tcp.example.com. SRV 0 0 8080 a.example.com.", "_web._tcp.example.com. SRV 0 0 8081 b.example.com.",
		"a.example.com. A 10.0.0.1", "b.example.com. A 10.0.0.2", "b.example.com. AAAA 2001:db8::2",
	}
	for _, c := range []struct {
		name    string
		read    roster
		rcodes  map[uint16]int
		records []string
		want    string
	}{
		{"both families", addresses, nil, []string{"web.example.com. A 10.0.0.2", "web.example.com. A 10.0.0.1", "web.example.com. AAAA 2001:db8::1"},
			"[{10.0.0.1:80 0} {10.0.0.2:80 0} {[2001:db8::1]:80 0}]"},
		{"one family", addresses, nil, []string{"web.example.com. AAAA 2001:db8::1"}, "[{[2001:db8::1]:80 0}]"},
		{"more than a packet holds", addresses, nil, many, "{10.0.0.99:80 0}"},
		{"one family fails", addresses, map[uint16]int{dns.TypeAAAA: dns.RcodeServerFailure}, []string{"web.example.com. A 10.0.0.1"}, n.addr + ": server misbehaving"},
		{"no such name", addresses, nil, nil, "no such host"},
		{"no records", addresses, nil, []string{"web.example.com. TXT x"}, "no such host"},
		{"refused", addresses, map[uint16]int{dns.TypeA: dns.RcodeRefused, dns.TypeAAAA: dns.RcodeRefused}, nil, "server misbehaving"},
		{"SRV", services, nil, srv, "[{10.0.0.1:8080 0} {10.0.0.2:8081 0} {[2001:db8::2]:8081 0}]"},
		{"SRV with a target that is gone", services, nil, srv[:3], "no such host"},
		{"SRV of no service", services, nil, []string{"_web._tcp.example.com. SRV 0 0 0 ."}, "[]"},
		{"no SRV", services, nil, nil, "no such host"},
	} {
		n.set(t, c.rcodes, c.records...)
		if got := readOnce(t, c.read); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if all, err := dnsRoster(BackendsConfig{DNS: "web.example.com.", Port: 80, Server: silent.LocalAddr().String()})(ctx); err == nil {
		t.Errorf("a server that is silent: %v, want an error", all)
	}
}
