package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A namespace is a network of its own, in which every IPv4 address is this machine's: servers of a whole
// Internet, and all of its clients, meet there, and nobody else.
type namespace struct {
	name string
	work chan func() // run by threads that are in it
}

// namespaceThreads is how many queries are under way at once.
const namespaceThreads = 4

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{name: fmt.Sprintf("nearcast-%d", os.Getpid()), work: make(chan func())}
	t.Cleanup(func() {
		close(n.work)
		if out, err := command("ip", "netns", "del", n.name); err != nil {
			t.Errorf("ip netns del: %v\n%s", err, out)
		}
	})
	for _, args := range []string{"netns add NAME", "-n NAME link set lo up", "-n NAME route add local 0.0.0.0/0 dev lo", "-n NAME addr add 44.0.4.1/32 dev lo"} {
		args = strings.ReplaceAll(args, "NAME", n.name)
		if out, err := command("ip", strings.Fields(args)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	entered := make(chan error, namespaceThreads)
	for range namespaceThreads {
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			entered <- n.enter()
			for f := range n.work {
				f()
			}
		}()
	}
	for range namespaceThreads {
		if err := <-entered; err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// enter puts the thread into the namespace.
func (n *namespace) enter() error {
	f, err := os.Open("/run/netns/" + n.name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// do runs f in the namespace.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
}

// ask asks a server from an address.
func (n *namespace) ask(from, server netip.Addr, q *dns.Msg) (r *dns.Msg, err error) {
	n.do(func() {
		var conn *net.UDPConn
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)))
		if err != nil {
			return
		}
		defer conn.Close()
		client := &dns.Client{Timeout: 5 * time.Second}
		r, _, err = client.ExchangeWithConn(q, &dns.Conn{Conn: conn})
	})
	return r, err
}

// command is the program and its arguments for exec, so that it runs in the namespace.
func (n *namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.name, program}, args...)...)
}
