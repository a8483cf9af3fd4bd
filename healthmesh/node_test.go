package healthmesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

// TestMain waits for goroutines that end late: Shutdown does not wait for memberlist's prober, which ends with its probe.
func TestMain(m *testing.M) {
	code := m.Run()
	leak := goleak.Find()
	for end := time.Now().Add(patience); leak != nil && time.Now().Before(end); {
		leak = goleak.Find() // which itself waits some time
	}
	if leak != nil {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// The clusters of these tests run on loopback with real sockets, at a tenth of the default times.
const (
	testBeat  = 100 * time.Millisecond
	testLease = 500 * time.Millisecond
	patience  = 20 * time.Second // for what should take a second at most; a busy machine is not a failure
)

// A network can cut nodes off: what they send is dropped, and what is sent to them. Or only their packets are.
type network struct {
	mu     sync.Mutex
	cut    map[string]bool // by address
	noPack map[string]bool // by address; streams pass
}

func newNetwork() *network {
	return &network{cut: make(map[string]bool), noPack: make(map[string]bool)}
}

// blockPackets lets nothing but streams to and from a node pass.
func (n *network) blockPackets(node *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noPack[node.Addr()] = true
}

func (n *network) packetsPass(addrs ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(addrs, func(a string) bool { return n.cut[a] || n.noPack[a] })
}

func (n *network) set(cut bool, nodes ...*node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range nodes {
		n.cut[node.Addr()] = cut
	}
}

func (n *network) open(addrs ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(addrs, func(a string) bool { return n.cut[a] })
}

// A cutTransport is a node's place in a network.
type cutTransport struct {
	*transport
	network *network
	self    string
}

func (t *cutTransport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if !t.network.packetsPass(t.self, to.Addr) {
		return time.Now(), nil
	}
	return t.transport.WriteToAddress(b, to)
}

func (t *cutTransport) DialAddressTimeout(to memberlist.Address, d time.Duration) (net.Conn, error) {
	if !t.network.open(t.self, to.Addr) {
		return nil, fmt.Errorf("cut")
	}
	return t.transport.DialAddressTimeout(to, d)
}

// A node is a Mesh that a test can start again.
type node struct {
	*Mesh
	t *testing.T
	o Options
}

// begin starts a node. It is closed with the test.
func begin(t *testing.T, o Options, net *network) *node {
	t.Helper()
	o.Config.Beat, o.Config.Lease = testBeat, testLease
	o.tune = func(c *memberlist.Config) {
		c.GossipInterval, c.PushPullInterval, c.ProbeInterval, c.ProbeTimeout = 20*time.Millisecond, time.Second, 200*time.Millisecond, 100*time.Millisecond
		if net != nil {
			c.Transport = &cutTransport{c.Transport.(*transport), net, fmt.Sprintf("127.0.0.1:%d", c.BindPort)}
		}
	}
	return start(t, o)
}

// start starts a node as it is set.
func start(t *testing.T, o Options) *node {
	t.Helper()
	if o.Config.Listen == "" {
		o.Config.Listen = "127.0.0.1:0"
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "state")
	}
	if o.Log == nil {
		o.Log = testLog(t).With("node", o.Name)
	}
	m, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{m, t, o}
	t.Cleanup(n.leave)
	return n
}

func (n *node) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		n.t.Errorf("%s does not close: %v", n.o.Name, err)
	}
}

// kill stops a node without a word to the others.
func (n *node) kill() {
	n.closing.Do(func() { n.closed = n.stop(context.Background()) })
}

// again starts a node that was stopped, at its old address and with its state folder.
func (n *node) again(net *network) *node {
	n.t.Helper()
	o := n.o
	o.Config.Listen = n.Addr()
	return begin(n.t, o, net)
}

func director(name string, seeds ...*node) Options {
	return Options{Name: name, Role: roleDirector, Config: Config{Join: addrs(seeds)}}
}

func agentIn(region string, seeds ...*node) Options {
	return Options{Name: region + "-agent", Role: roleAgent, Region: region, Config: Config{Join: addrs(seeds)}}
}

func addrs(nodes []*node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.Addr())
	}
	return all
}

// eventually waits until a node's view is as want says.
func (n *node) eventually(what string, want func(*View) bool) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		if want(n.View()) {
			return
		}
		select {
		case <-n.Changed():
		case <-time.After(20 * time.Millisecond): // Heard changes without a token
		case <-deadline:
			n.t.Fatalf("%s does not see: %s\nview:\n%s", n.o.Name, what, describe(n.View()))
		}
	}
}

// sees waits for the states of regions, written "a up, b down left, c up held, d drained".
func (n *node) sees(want string) {
	n.t.Helper()
	n.eventually(want, func(v *View) bool { return describe(v) == want })
}

func describe(v *View) string {
	var all []string
	for name, r := range v.Regions {
		s := name + " " + r.State.String()
		if r.State == Down {
			s += " " + r.Cause
		}
		if r.Held {
			s += " held"
		}
		if r.Order != nil {
			s += " " + r.Order.Kind
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// testLog writes to the test's log when it is verbose.
func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

var endpointA = ID("www.geo.example.com.", "a", "127.0.1.1")

func up(endpoints ...EndpointID) Status {
	s := Status{Capacity: 100, Endpoints: map[EndpointID]Endpoint{}}
	for _, id := range endpoints {
		s.Endpoints[id] = Endpoint{State: Up, Reason: "status 200"}
	}
	return s
}

// cluster starts two directors and an agent in each of regions a, b and c, and waits until all is up.
func cluster(t *testing.T, net *network) (directors []*node, agents map[string]*node) {
	d1 := begin(t, director("d1"), net)
	d2 := begin(t, director("d2", d1), net)
	directors = []*node{d1, d2}
	agents = make(map[string]*node)
	for _, region := range []string{"a", "b", "c"} {
		agents[region] = begin(t, agentIn(region, d1, d2), net)
		agents[region].Publish(up(endpointA))
	}
	for _, d := range directors {
		d.sees("a up, b up, c up")
		d.eventually("five members", func(v *View) bool { return len(v.Members) == 5 })
	}
	return directors, agents
}
