package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// A lan is a network of namespaces. Each host is one, with one address; all meet at a bridge in a namespace of its own,
// which passes everything but what is cut.
type lan struct {
	t     *testing.T
	hub   *namespace
	hosts map[string]*namespace // by name
}

// lans counts the networks of this process, so that each has names of its own.
var lans atomic.Int64

// The addresses of a lan are 10.0.x.y, and all hosts are neighbours.
const lanLength = 16

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, hosts: map[string]*namespace{}}
	l.hub = addNamespace(t, fmt.Sprintf("nearcast-%d-%d", os.Getpid(), lans.Add(1)))
	l.hub.ip(t, "link add hub type bridge", "link set hub up")
	l.filter("add table bridge faults", "add chain bridge faults cut { type filter hook forward priority 0; policy accept; }")
	return l
}

// add adds a host.
func (l *lan) add(name, addr string) {
	l.t.Helper()
	host := addNamespace(l.t, fmt.Sprintf("%s-%s", l.hub.name, name))
	port := fmt.Sprintf("port%d", len(l.hosts))
	l.hosts[name] = host
	l.hub.ip(l.t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, host.name), fmt.Sprintf("link set %s master hub up", port))
	host.ip(l.t, fmt.Sprintf("addr add %s/%d dev eth0", addr, lanLength), "link set eth0 up")
}

// cut drops the packets that match any of some rules of nftables, without a word to either side, until heal.
func (l *lan) cut(rules ...string) {
	l.t.Helper()
	var commands []string
	for _, r := range rules {
		commands = append(commands, fmt.Sprintf("add rule bridge faults cut %s drop", r))
	}
	l.filter(commands...)
}

func (l *lan) heal() {
	l.t.Helper()
	l.filter("flush chain bridge faults cut")
}

func (l *lan) filter(commands ...string) {
	l.t.Helper()
	nft := l.hub.command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := nft.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v\n%s", err, out)
	}
}
