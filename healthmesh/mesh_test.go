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

func Test_an_agent_that_dies_takes_its_region_down_at_all_directors(t *testing.T) {
	directors, agents := cluster(t, nil)
	agents["a"].kill()
	killed := time.Now()
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
	}
	t.Logf("down %v after the kill, with a lease of %v", time.Since(killed).Round(time.Millisecond), testLease)

	agents["a"] = agents["a"].again(nil)
	agents["a"].Publish(up(endpointA))
	for _, d := range directors {
		d.sees("a up, b up, c up")
	}
}

func Test_an_agent_that_leaves_takes_its_region_down_at_once(t *testing.T) {
	directors, agents := cluster(t, nil)
	left := time.Now()
	agents["a"].leave()
	for _, d := range directors {
		d.sees("a down left, b up, c up")
	}
	t.Logf("down %v after the start of leaving, with a lease of %v", time.Since(left).Round(time.Millisecond), testLease)
}

// A director that is cut off from all holds its last view and says so; when the cut heals, it sees what the others see.
func Test_a_director_that_is_cut_off_holds_its_view(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	cut := directors[1]
	net.set(true, cut)
	cut.sees("a up held, b up held, c up held")
	cut.eventually("that it is isolated", func(v *View) bool { return v.Isolated })
	agents["a"].kill()
	directors[0].sees("a down silent for 500ms, b up, c up")
	if got := describe(cut.View()); got != "a up held, b up held, c up held" {
		t.Errorf("the one that is cut off sees %s", got)
	}
	net.set(false, cut)
	cut.sees("a down silent for 500ms, b up, c up")
	cut.eventually("that it is not isolated", func(v *View) bool { return !v.Isolated })
}

// An agent whose packets are lost, as where UDP is blocked, is heard over streams; most of the time at least, on a busy machine.
func Test_an_agent_whose_packets_are_lost_is_heard_over_streams(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	net.blockPackets(agents["a"])
	heard, looks := 0, 0
	for end := time.Now().Add(10 * testLease); time.Now().Before(end); time.Sleep(testBeat / 4) {
		for _, d := range directors {
			looks++
			if r := d.View().Regions["a"]; r.State == Up && !r.Held {
				heard++
			}
		}
	}
	if heard < looks*9/10 {
		t.Errorf("heard at %d of %d looks", heard, looks)
	}
	agents["a"].kill()
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
	}
}

// A region that is cut off with its agent falls, and comes back when the cut heals, however long it was.
func Test_a_region_that_is_cut_off_comes_back(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	net.set(true, agents["a"])
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
		d.eventually("that the agent is no member any more", func(v *View) bool { return len(v.Members) == 4 })
	}
	net.set(false, agents["a"])
	for _, d := range directors {
		d.sees("a up, b up, c up")
	}
}

// A director that starts again believes at once what it believed when it ended, and then what the others do.
func Test_a_director_begins_with_its_last_view(t *testing.T) {
	directors, agents := cluster(t, nil)
	agents["a"].leave()
	directors[1].sees("a down left, b up, c up")
	directors[1].leave()
	again := directors[1].again(nil)
	if got := describe(again.View()); got != "a down left held, b up held, c up held" && got != "a down left, b up, c up" {
		t.Errorf("at its start it sees %s", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again.Settled(ctx)
	if ctx.Err() != nil {
		t.Fatal("it does not settle")
	}
	again.sees("a down left, b up, c up")
}

// A director alone settles as soon as no seed answers, and knows of nothing.
func Test_a_director_alone_settles(t *testing.T) {
	o := director("alone")
	o.Config.Join = []string{"127.0.0.1:9"}
	d := begin(t, o, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if d.Settled(ctx); ctx.Err() != nil {
		t.Fatal("it does not settle")
	}
	if got := describe(d.View()); got != "" {
		t.Errorf("it sees %s", got)
	}
}

// An order holds at all directors, over restarts, until it is taken back at another one.
func Test_orders_hold_everywhere(t *testing.T) {
	directors, _ := cluster(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := directors[0].Give(ctx, Order{Region: "b", Kind: Drain, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if got := describe(directors[0].View()); got != "a up, b up drain, c up" {
		t.Errorf("when Give returns its director sees %s", got)
	}
	directors[1].sees("a up, b up drain, c up")
	directors[1].kill()
	again := directors[1].again(nil)
	if o := again.View().Regions["b"].Order; o == nil || o.Kind != Drain || o.By != "d1" || o.Reason != "test" {
		t.Errorf("at its start it has the order %+v", o)
	}
	if err := again.Give(ctx, Order{Region: "b", Kind: None}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*node{directors[0], again} {
		d.sees("a up, b up, c up")
	}
	if err := again.Give(ctx, Order{Region: "b", Kind: Drain, For: testLease}); err != nil {
		t.Fatal(err)
	}
	directors[0].sees("a up, b up drain, c up")
	for _, d := range []*node{directors[0], again} {
		d.sees("a up, b up, c up")
	}
}

// A node without the key, with another, or with another label has no part in the mesh.
func Test_only_who_has_the_key_and_the_label_is_heard(t *testing.T) {
	key, other := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "other")
	for _, file := range []string{key, other} {
		if err := os.WriteFile(file, []byte(GenerateKey()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	with := director("d1")
	with.Config.KeyFile = key
	d := begin(t, with, nil)
	friend := agentIn("a", d)
	friend.Config.KeyFile = key
	begin(t, friend, nil).Publish(up(endpointA))
	for region, c := range map[string]struct{ key, label string }{"b": {"", ""}, "c": {other, ""}, "d": {key, "another mesh"}} {
		stranger := agentIn(region, d)
		stranger.Config.KeyFile, stranger.Config.Label = c.key, c.label
		begin(t, stranger, nil).Publish(up(endpointA))
	}
	d.sees("a up")
	time.Sleep(4 * testBeat) // for what must not come
	if got := describe(d.View()); got != "a up" {
		t.Errorf("%s", got)
	}
}

// A folder with a memory that makes no sense is used all the same, and what was there is kept.
func Test_a_bad_memory_is_moved_aside(t *testing.T) {
	for _, bad := range []string{"{nonsense", `{"version":2,"regions":{"a":{"state":1,"endpoints":{"7":{"State":3}}}}}`} {
		dir := filepath.Join(t.TempDir(), "state")
		o := director("d1")
		o.Dir = dir
		begin(t, o, nil).kill()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info, err)
		}
		if err := os.WriteFile(filepath.Join(dir, diskFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		begin(t, o, nil)
		if b, err := os.ReadFile(filepath.Join(dir, diskFile+".bad")); err != nil || string(b) != bad {
			t.Errorf("%q, %v", b, err)
		}
		info, err := os.Stat(filepath.Join(dir, diskFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func Test_what_Start_refuses(t *testing.T) {
	for want, o := range map[string]Options{
		"node name":              {Name: "two words", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"agent's region":         {Name: "x", Role: roleAgent, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"role":                   {Name: "x", Role: "king", Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"without a state folder": {Name: "x", Role: roleDirector, Config: Config{Listen: "127.0.0.1:0"}},
		"key file":               {Name: "x", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0", KeyFile: "/gone"}},
		"192.0.2.1":              {Name: "x", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "192.0.2.1:0"}},
	} {
		o.Log = slog.New(slog.DiscardHandler)
		if m, err := Start(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
			if m != nil {
				m.Close(context.Background())
			}
		}
	}
}
