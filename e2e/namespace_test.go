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
	n := addNamespace(t, fmt.Sprintf("nearcast-%d", os.Getpid()))
	n.ip(t, "route add local 0.0.0.0/0 dev lo", "addr add 44.0.4.1/32 dev lo")
	return n
}

// addNamespace makes a network with nothing but loopback in it, until the test ends.
func addNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	n := &namespace{name: name, work: make(chan func())}
	if out, err := command("ip", "netns", "add", name); err != nil {
		t.Fatalf("ip netns add: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		close(n.work)
		if out, err := command("ip", "netns", "del", n.name); err != nil {
			t.Errorf("ip netns del: %v\n%s", err, out)
		}
	})
	n.ip(t, "link set lo up")
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

// ip has the program ip change the namespace.
func (n *namespace) ip(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if out, err := command("ip", append([]string{"-n", n.name}, strings.Fields(c)...)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", c, err, out)
		}
	}
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

// dial connects from the namespace; what is sent and received then needs no thread in it.
func (n *namespace) dial(network, addr string) (conn net.Conn, err error) {
	n.do(func() { conn, err = net.DialTimeout(network, addr, queryTimeout) })
	return conn, err
}

// listen binds in the namespace.
func (n *namespace) listen(network, addr string) (ln net.Listener, err error) {
	n.do(func() { ln, err = net.Listen(network, addr) })
	return ln, err
}

// command is the program and its arguments for exec, so that it runs in the namespace.
func (n *namespace) command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.name, program}, args...)...)
}
