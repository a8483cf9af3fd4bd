package healthmesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Options are what a node needs beside its Config.
type Options struct {
	Config   Config
	Name     string    // unique in the mesh, and the same over restarts; at most 128 bytes
	Role     string    // "director" or "agent"
	Region   string    // an agent's
	Dir      string    // state folder of this node and no other, made if absent
	Plan     *Plan     // what the configuration says of regions; nil: nothing
	Identity *Identity // what this node signs with; nil: nothing
	Log      *slog.Logger

	// What a node has of the world, where it is not the machine's own. Nil for that.
	Transport memberlist.NodeAwareTransport // in place of sockets on Config.Listen; the mesh shuts it down
	Wall      func() time.Time              // the wall clock: incarnations, the times of orders and the ages of those on disk go by it, and no lease or pause does
	Disk      Disk                          // in place of Dir

	tune func(*memberlist.Config) // for tests; nil otherwise
}

// The times of leaving.
const (
	leaveTime    = 500 * time.Millisecond // for the last report to reach the directors
	farewellTime = 500 * time.Millisecond // for memberlist's own leave message; others detect the rest
)

// Mesh is a node's part in the mesh. One goroutine owns its table.
type Mesh struct {
	core *core
	list *memberlist.Memberlist
	addr string

	stopJoining context.CancelFunc
	stopCore    context.CancelFunc
	stopScribe  context.CancelFunc
	joining     sync.WaitGroup // the joiner and the fetcher
	running     sync.WaitGroup // the core
	writing     sync.WaitGroup // the scribe
	stopped     chan struct{}  // closed when Close begins to stop the goroutines
	closing     sync.Once
	closed      error
}

// Start loads the state on disk, binds, and joins in the background, for ever.
func Start(o Options) (*Mesh, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	past, err := recall(o.Disk, o.Log)
	if err != nil {
		return nil, err
	}
	keys, ring, keyFile, err := keysAtStart(o.Config.KeyFile, past)
	if err != nil {
		return nil, err
	}
	// A new life: a number larger than any before, on disk before the first report.
	past.Incarnation = max(past.Incarnation+1, uint64(o.Wall().UnixMilli()))
	if err := past.write(o.Disk); err != nil {
		// Not fatal: the clock still keeps the incarnation from going back.
		o.Log.Error("the mesh's memory cannot be written", "error", err)
	}
	c := newCore(o, past)
	conf, err := listConfig(o, keys, c.gossip)
	if err != nil {
		return nil, err
	}
	c.keys, c.ring, c.keyFile = conf.Keyring, ring, keyFile
	c.announce()
	list, err := memberlist.Create(conf)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mesh on %s: %w", o.Config.Listen, err), conf.Transport.Shutdown())
	}
	if len(keys) == 0 {
		o.Log.Warn("gossip is neither encrypted nor authenticated: there is no key file", "listen", o.Config.Listen)
	}
	m := &Mesh{core: c, list: list, stopped: make(chan struct{})}
	m.addr = net.JoinHostPort(host(o.Config.Listen), strconv.Itoa(conf.BindPort))
	c.updateNode = func() { _ = list.UpdateNode(metaTimeout) } // an error says that others have it later
	c.send = func(n memberlist.Node, b []byte) error { return list.SendBestEffort(&n, b) }
	c.joiner.self = []string{m.addr, list.LocalNode().Address()}
	c.joiner.join = func(addr string) error { _, err := list.Join([]string{addr}); return err }
	c.fetcher.pull = c.joiner.join
	m.run()
	return m, nil
}

// complete fills in defaults and refuses what the mesh cannot work with.
func (o *Options) complete() error {
	o.Log = cmp.Or(o.Log, slog.Default())
	o.Config = o.Config.withDefaults()
	switch {
	case !validName(o.Name, maxName):
		return fmt.Errorf("node name %q, 1 to %d printable characters are accepted", o.Name, maxName)
	case o.Role == roleAgent && !validName(o.Region, maxRegionName):
		return fmt.Errorf("agent's region %q, 1 to %d printable characters are accepted", o.Region, maxRegionName)
	case o.Role == roleDirector && o.Region != "" || o.Role != roleDirector && o.Role != roleAgent:
		return fmt.Errorf("role %q in region %q, %q in no region or %q in one are accepted", o.Role, o.Region, roleDirector, roleAgent)
	case o.Dir == "" && o.Disk == nil:
		return errors.New("mesh without a state folder")
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Disk == nil {
		o.Disk = folder(o.Dir)
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return fmt.Errorf("%v: %w", o.Disk, err)
		}
	}
	return nil
}

func newCore(o Options, past memory) *core {
	now := time.Now()
	c := &core{
		o:         o,
		gossip:    newGossip(o, retransmit),
		scribe:    newScribe(o.Disk, o.Log),
		fetcher:   newFetcher(o.Config.Beat),
		statuses:  newMailbox[Status](1),
		replanned: make(chan struct{}, 1),
		gives:     make(chan giving),
		rotations: make(chan rotation),
		leaves:    make(chan chan []byte),
		changed:   make(chan struct{}, 1),
		settled:   make(chan struct{}),
		table:     newTable(o.Config.Lease),
		belief:    belief{regions: past.regions(), start: now},
		orders:    recallOrders(past, o.Wall(), now),
		book:      make(peerBook),
		number:    numbering{Incarnation: past.Incarnation},
		born:      now,
		duty:      make(chan struct{}, 1),
	}
	c.table.remember(past.Numbers, now)
	if o.Plan != nil {
		c.plan.Store(o.Plan.index())
	}
	for _, p := range past.Peers {
		c.book[p.Name] = peer{p.Name, p.Addr, now} // the time in between says nothing about the peer
	}
	c.joiner = &joiner{
		seeds: o.Config.Join, members: c.gossip.members, log: o.Log,
		first: make(chan bool, 1), known: make(map[string]bool),
	}
	addrs := c.book.addrs()
	c.joiner.peers.Store(&addrs)
	c.shown = c.belief
	c.view.Store(&View{Regions: map[string]*Region{}})
	c.evaluate(now)
	return c
}

// run starts the goroutines. Close ends them.
func (m *Mesh) run() {
	joining, stopJoining := context.WithCancel(context.Background())
	running, stopCore := context.WithCancel(context.Background())
	writing, stopScribe := context.WithCancel(context.Background())
	m.stopJoining, m.stopCore, m.stopScribe = stopJoining, stopCore, stopScribe
	m.joining.Go(func() { m.core.joiner.run(joining) })
	m.joining.Go(func() { m.core.fetcher.run(joining) })
	m.running.Go(func() { m.core.run(running) })
	m.writing.Go(func() { m.core.scribe.run(writing.Done()) })
}

// Addr is the address that the node listens on, with the port that it got where Listen has port 0.
func (m *Mesh) Addr() string { return m.addr }

// Settled returns when a peer's table has come in or no seed answered, at the latest when ctx ends: then View
// is the best there is to start with.
func (m *Mesh) Settled(ctx context.Context) {
	select {
	case <-m.core.settled:
	case <-m.stopped:
	case <-ctx.Done():
	}
}

// View returns the newest view, at agents without states of regions. Never nil.
func (m *Mesh) View() *View { return m.core.view.Load() }

// Changed has a token when the view changed since it was last received from. Changes of load and capacity alone
// give at most ten tokens a second; any other change gives one at once.
func (m *Mesh) Changed() <-chan struct{} { return m.core.changed }

var errClosed = errors.New("the mesh is closed")

// ErrUnsaved says that an order is in force all the same, until this node restarts without another one to tell it.
var ErrUnsaved = errors.New("the order is in force, but not on this node's disk")

// Give puts an order into force at every director; it returns when it is in this node's view and on its disk. By and At are
// set here. Where the plan lists directors, this node has to be one of them. The error is ErrUnsaved if the disk fails, or hangs until ctx ends.
func (m *Mesh) Give(ctx context.Context, o Order) error {
	g := giving{o, make(chan error, 1)}
	select {
	case m.core.gives <- g:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.stopped:
		return errClosed
	}
	select {
	case err := <-g.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnsaved, ctx.Err())
	}
}

// Publish makes s this agent's state: it goes out at once and on every beat. Only for agents. It never blocks.
func (m *Mesh) Publish(s Status) {
	if m.core.o.Role != roleAgent {
		panic("healthmesh: only agents publish")
	}
	s.Endpoints = maps.Clone(s.Endpoints)
	m.core.statuses.put(s)
}

// Adopt makes p what the configuration says from now on. The mesh keeps it.
func (m *Mesh) Adopt(p *Plan) {
	m.core.plan.Store(p.index())
	poke(m.core.replanned)
}

// duties are the targets of other regions that this agent is to probe; changed has a token when they changed.
func (m *Mesh) duties() (changed <-chan struct{}, list func() []Target) {
	return m.core.duty, func() []Target {
		if d := m.core.dutyList.Load(); d != nil {
			return *d
		}
		return nil
	}
}

// Stats are counters of this node since its start, and sizes now.
type Stats struct {
	Members     int    // of the mesh, this node included
	Dropped     uint64 // messages lost because the mesh's goroutine was behind; they come again
	Undecodable uint64 // messages, reports and orders that were not understood
	Refused     uint64 // reports and orders beyond a bound
	Forged      uint64 // reports and orders that are not signed by who may say so
	Earlier     uint64 // reports of earlier lives of their agents
	Queued      int    // messages waiting for gossip
}

// Stats returns the counters.
func (m *Mesh) Stats() Stats {
	g, queued := m.core.gossip, 0
	for _, q := range g.queues() {
		queued += q.NumQueued()
	}
	return Stats{
		Members:     g.members.count(),
		Dropped:     g.packets.dropped.Load() + g.states.dropped.Load(),
		Undecodable: m.core.unused.n[notUnderstood].Load(),
		Refused:     m.core.unused.n[outOfBounds].Load(),
		Forged:      m.core.unused.n[notGenuine].Load(),
		Earlier:     m.core.unused.n[outOfDate].Load(),
		Queued:      queued,
	}
}

// Close leaves: an agent's region loses this agent's evidence at once. Bounded by ctx.
func (m *Mesh) Close(ctx context.Context) error {
	m.closing.Do(func() {
		m.stopJoining() // who leaves must not join
		m.leave(ctx)
		m.closed = m.stop(ctx)
	})
	return m.closed
}

// leave sends the last report, over streams to the directors and by gossip, and tells memberlist.
func (m *Mesh) leave(ctx context.Context) {
	reply := make(chan []byte, 1)
	select {
	case m.core.leaves <- reply:
	case <-ctx.Done():
		return
	}
	if last := <-reply; last != nil {
		m.tellDirectors(ctx, last)
	}
	if err := m.list.Leave(bounded(ctx, farewellTime)); err != nil {
		m.core.o.Log.Debug("others will find out that this node left", "error", err)
	}
}

// tellDirectors sends a message over streams, and waits until all have it, at most leaveTime.
func (m *Mesh) tellDirectors(ctx context.Context, message []byte) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	var sending sync.WaitGroup
	for _, n := range m.core.gossip.members.all() {
		if member(n).Role != roleDirector {
			continue
		}
		// Each sender ends by the transport's own time limit, or when the transport is shut down, which stop does next.
		sending.Go(func() {
			if err := m.list.SendReliable(&n, message); err != nil {
				m.core.o.Log.Debug("director not told that this agent leaves", "director", n.Name, "error", err)
			}
		})
	}
	wait(ctx, &sending)
}

// stop ends all goroutines, without a word to others.
func (m *Mesh) stop(ctx context.Context) error {
	close(m.stopped)
	m.stopJoining()
	err := m.list.Shutdown()
	m.stopCore()
	if !wait(ctx, &m.running) || !wait(ctx, &m.joining) {
		err = errors.Join(err, fmt.Errorf("mesh is still stopping: %w", ctx.Err()))
	}
	m.stopScribe() // last: it writes what the others left
	if !wait(ctx, &m.writing) {
		err = errors.Join(err, fmt.Errorf("%v still hangs: %w", m.core.o.Disk, ctx.Err()))
	}
	return err
}

// wait waits for the group until ctx ends, and says whether it is done.
func wait(ctx context.Context, group *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done: // both were ready
		return true
	default:
		return false
	}
}

// bounded is the time that ctx leaves, at most most, at least a millisecond: memberlist takes 0 for ever.
func bounded(ctx context.Context, most time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline))
	}
	return max(most, time.Millisecond)
}

// Status is an agent's state of its region, that its reports carry.
type Status struct {
	Capacity   float64 // live: what the healthy backends carry; the configured one if no backends are configured
	Below      bool    // Capacity is below min_live, or not for long enough above it: all Endpoints of the region are down for that reason
	Load       float64 // smoothed, in the unit of Capacity
	HasLoad    bool
	LoadStale  bool                    // Load is the last that could be read
	LoadRead   time.Time               // when Load was read, with its monotonic clock; zero without load
	Suppressed uint32                  // flips of endpoints that flap damping kept from the state, since the agent's start
	Endpoints  map[EndpointID]Endpoint // at most 6144; At is when State became so; Since is not read
}
