package healthmesh

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// The bounds between memberlist and the mesh's goroutine.
const (
	packetDepth = 4096 // messages that wait: 5 MB, and two seconds of a mesh of 2,000 agents
	stateDepth  = 8    // push/pulls that wait; each carries all, so the newest few are enough
	maxMembers  = 4096 // nodes in the mesh
)

// The roles of a node.
const (
	roleDirector = "director"
	roleAgent    = "agent"
)

// A gossip is memberlist's view of the mesh: its callbacks run on memberlist's goroutines, some under its lock, so
// that they only copy and hand over. Nothing here blocks or calls memberlist.
type gossip struct {
	meta    atomic.Pointer[[]byte]  // what others know of this node; set by the mesh's goroutine
	name    string                  // immutable
	packets *mailbox[arrival]       // to the mesh's goroutine
	states  *mailbox[arrival]       // to the mesh's goroutine
	members *members                // swapped under its own lock
	carried atomic.Pointer[carried] // what push/pull sends; set by the mesh's goroutine

	// Messages for memberlist's packets: orders, reports that changed, and those that did not. Each kind has a queue of its own and goes before
	// the next, since a queue sends large messages first, and what the packets of a beat can carry is bounded: a mesh of some hundred agents fills them always.
	orderQueue, changeQueue, beatQueue memberlist.TransmitLimitedQueue
}

// queues are in the order in which they are emptied.
func (g *gossip) queues() [3]*memberlist.TransmitLimitedQueue {
	return [...]*memberlist.TransmitLimitedQueue{&g.orderQueue, &g.changeQueue, &g.beatQueue}
}

// An arrival is a message and when it came.
type arrival struct {
	b  []byte
	at time.Time
}

// carried is the table and the orders as they were at one moment, immutable. The orders are nil for a node that seals none.
type carried struct {
	parts  []*part
	orders []Order
	by     *Identity
	ring   []byte
}

func newGossip(o Options, retransmit int) *gossip {
	g := &gossip{
		name:    o.Name,
		packets: newMailbox[arrival](packetDepth),
		states:  newMailbox[arrival](stateDepth),
		members: &members{byName: make(map[string]memberlist.Node), changed: make(chan struct{}, 1)},
	}
	for _, q := range g.queues() {
		q.NumNodes, q.RetransmitMult = g.members.count, retransmit
	}
	g.carried.Store(new(carried))
	meta := encodeMeta(o.Role, o.Region, "")
	g.meta.Store(&meta)
	return g
}

// memberlist.Delegate

func (g *gossip) NodeMeta(int) []byte { return *g.meta.Load() }

func (g *gossip) NotifyMsg(b []byte) {
	g.packets.put(arrival{slices.Clone(b), time.Now()}) // memberlist uses b again
}

func (g *gossip) GetBroadcasts(overhead, limit int) (all [][]byte) {
	for _, q := range g.queues() {
		more := q.GetBroadcasts(overhead, limit)
		for _, b := range more {
			limit -= overhead + len(b)
		}
		all = append(all, more...)
	}
	return all
}

func (g *gossip) LocalState(bool) []byte {
	c, now := g.carried.Load(), time.Now()
	var seal []byte
	if len(c.orders) > 0 {
		seal = sealed(c.orders, c.by, now)
	}
	return withRing(c.ring, encodeState(g.name, c.parts, seal, now))
}

func (g *gossip) MergeRemoteState(b []byte, _ bool) {
	g.states.put(arrival{slices.Clone(b), time.Now()})
}

// memberlist.AliveDelegate

// NotifyAlive keeps out what is not a node of this program, and what is beyond the bound.
func (g *gossip) NotifyAlive(n *memberlist.Node) error {
	if _, _, _, err := decodeMeta(n.Meta); err != nil {
		return err
	}
	if !g.members.roomFor(n.Name) {
		return fmt.Errorf("the mesh has %d members already", maxMembers)
	}
	return nil
}

// memberlist.EventDelegate

func (g *gossip) NotifyJoin(n *memberlist.Node)   { g.members.put(n) }
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.members.put(n) }
func (g *gossip) NotifyLeave(n *memberlist.Node)  { g.members.remove(n.Name) }

// members are the nodes that memberlist holds for alive, copied in its callbacks: its own list is written to while
// others read it.
type members struct {
	mu      sync.Mutex
	byName  map[string]memberlist.Node
	changed chan struct{} // has a token when the members changed
}

func (m *members) put(n *memberlist.Node) {
	c := *n
	c.Addr, c.Meta = slices.Clone(n.Addr), slices.Clone(n.Meta)
	m.mu.Lock()
	m.byName[c.Name] = c
	m.mu.Unlock()
	poke(m.changed)
}

func (m *members) remove(name string) {
	m.mu.Lock()
	delete(m.byName, name)
	m.mu.Unlock()
	poke(m.changed)
}

func (m *members) roomFor(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.byName[name]
	return known || len(m.byName) < maxMembers
}

func (m *members) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byName)
}

// all lists the members by name.
func (m *members) all() []memberlist.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.byName), func(a, b memberlist.Node) int { return strings.Compare(a.Name, b.Name) })
}

// member is how the view shows a node.
func member(n memberlist.Node) Member {
	role, region, keys, err := decodeMeta(n.Meta)
	if err != nil {
		role = "unknown" // NotifyAlive keeps these out
	}
	return Member{Name: n.Name, Role: role, Region: region, Addr: n.Address(), Keys: keys}
}

// metaVersion is the first byte of a node's meta: then the role as "d" or "a", the length of what names its keys and that, and an
// agent's region.
const (
	metaVersion = 2
	maxDigest   = 16
)

func encodeMeta(role, region, keys string) []byte {
	return append(append([]byte{metaVersion, role[0], byte(len(keys))}, keys...), region...)
}

func decodeMeta(b []byte) (role, region, keys string, err error) {
	bad := errors.New("not a node of nearcast")
	if len(b) < 3 || b[0] != metaVersion || b[2] > maxDigest || len(b) < 3+int(b[2]) {
		return "", "", "", bad
	}
	keys, region = string(b[3:3+b[2]]), string(b[3+b[2]:])
	switch {
	case keys != "" && !validName(keys, maxDigest):
	case b[1] == roleDirector[0] && region == "":
		return roleDirector, "", keys, nil
	case b[1] == roleAgent[0] && validName(region, maxRegionName):
		return roleAgent, region, keys, nil
	}
	return "", "", "", bad
}

// A broadcast is one message in a queue. A newer one of the same name takes its place.
type broadcast struct {
	name string
	p    *part // a report, encoded when it is sent so that its age is right; nil for an order
	b    []byte
}

// Message implements memberlist.Broadcast. Its length never changes: an age has four bytes.
func (b *broadcast) Message() []byte {
	if b.p != nil {
		return reportMessage(b.p, time.Now())
	}
	return b.b
}

func (b *broadcast) Finished()    {}
func (b *broadcast) Name() string { return b.name }
func (b *broadcast) Invalidates(o memberlist.Broadcast) bool {
	other, ok := o.(*broadcast)
	return ok && other.name == b.name
}

// A mailbox is a bounded queue that never blocks: when it is full the oldest goes and is counted. What is lost so
// comes again, with the next beat or push/pull.
type mailbox[T any] struct {
	ready   chan struct{} // has a token when something waits
	depth   int
	dropped atomic.Uint64
	mu      sync.Mutex
	waiting []T // guarded by mu
}

func newMailbox[T any](depth int) *mailbox[T] {
	return &mailbox[T]{ready: make(chan struct{}, 1), depth: depth}
}

func (m *mailbox[T]) put(x T) {
	m.mu.Lock()
	if len(m.waiting) >= m.depth {
		m.waiting = m.waiting[1:]
		m.dropped.Add(1)
	}
	m.waiting = append(m.waiting, x)
	m.mu.Unlock()
	poke(m.ready)
}

func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.waiting
	m.waiting = nil
	return all
}

// poke puts a token into a channel of capacity 1, unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hostPort is the address of a member as Join takes it.
func hostPort(n memberlist.Node) string { return net.JoinHostPort(n.Addr.String(), fmt.Sprint(n.Port)) }
