package healthmesh

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// The pace of the mesh's goroutine.
const (
	mergePause   = 20 * time.Millisecond  // at least between two evaluations: a burst of reports is merged at once
	agentPause   = time.Second            // the same at agents, which only deal out the duties of witnesses
	amountPause  = 100 * time.Millisecond // at least between two tokens for changes of load and capacity alone
	memberPause  = 100 * time.Millisecond // at least between two looks at the members: those of a large mesh that starts come one by one
	publishDelay = 5 * time.Millisecond   // after a change, so that changes that come together go out together
	publishPause = 50 * time.Millisecond  // at least between two reports
	tickMost     = 250 * time.Millisecond // between looks at the leases: a silent region falls at most so long after its lease
	tickLeast    = 10 * time.Millisecond
)

// A core is the state of a node's part in the mesh, and the one goroutine that changes it.
type core struct {
	// Immutable.
	o          Options
	gossip     *gossip
	scribe     *scribe
	joiner     *joiner
	fetcher    *fetcher
	send       func(memberlist.Node, []byte) error // one packet, best effort
	updateNode func()                              // tells others of a new meta; nil before the node has begun
	keys       *memberlist.Keyring                 // nil: the mesh is not encrypted
	keyFile    string                              // names the contents of the key file

	// How others reach the goroutine.
	statuses  *mailbox[Status]
	gives     chan giving
	rotations chan rotation
	replanned chan struct{} // has a token when there is another plan
	leaves    chan chan []byte

	// What others may read; written by the goroutine.
	view     atomic.Pointer[View]
	changed  chan struct{}        // has a token when the view changed
	settled  chan struct{}        // closed when the view is the best there is to start with
	plan     atomic.Pointer[Plan] // nil: there is none; written by who adopts one
	duty     chan struct{}        // has a token when dutyList changed
	dutyList atomic.Pointer[[]Target]
	unused   register

	// Owned by the goroutine.
	table     *table
	belief    belief
	shown     belief // what views have: belief, but for a freeze
	orders    *orders
	turn      int       // of the orders, which goes first on the next beat
	stamped   time.Time // when the memory was handed to the scribe last
	unsaved   bool      // something is to be written at the next evaluation
	book      peerBook
	nodes     []memberlist.Node // the members, by name
	ring      *ring             // the mesh's keys; nil before the first change at run time
	number    numbering         // of the last own report
	born      time.Time         // when the life of that number began
	status    *Status           // what own reports say; nil before the first
	asked     time.Time         // when another director was asked for what this one misses
	counted   time.Time         // when nodes was taken
	witnesses []agentKey        // who there was when the duties were dealt out
	redeal    bool              // there may be others by now
	left      bool              // the last report has gone out
	usurped   bool              // another agent reports under this one's name
	sent      time.Time         // when the last own report went out
	evaluated time.Time
	told      time.Time // when the last token for amounts went out
	owed      bool      // a token for amounts is due
	start     starting
}

// starting is how far the way to settled is.
type starting struct {
	peer bool // a peer's table came
	self bool // the node's own table came: a seed is another address of this node
	none bool // no seed answered in the first round
	some bool // some seed did
}

// giving is an order on its way in; done has room for one error.
type giving struct {
	order Order
	done  chan error
}

// run owns the state until ctx ends.
func (c *core) run(ctx context.Context) {
	beat := time.NewTicker(c.o.Config.Beat)
	defer beat.Stop()
	pause, every := mergePause, tickMost
	if c.o.Role == roleAgent {
		pause, every = agentPause, agentPause
	}
	tick := time.NewTicker(min(max(c.o.Config.Beat/4, tickLeast), every))
	defer tick.Stop()
	c.checkListed()
	var evaluate, publish, count <-chan time.Time // nil unless one is due
	soon := func(due <-chan time.Time, last time.Time, pause, least time.Duration) <-chan time.Time {
		if due != nil {
			return due
		}
		return time.After(max(time.Until(last.Add(pause)), least))
	}
	for {
		dirty := false
		select {
		case <-c.gossip.packets.ready:
			dirty = c.takePackets()
		case <-c.gossip.states.ready:
			dirty = c.takeStates()
		case <-c.gossip.members.changed:
			count = soon(count, c.counted, memberPause, 0)
		case <-count:
			count = nil
			dirty = c.takeMembers(time.Now())
		case <-c.statuses.ready:
			if s := c.statuses.take(); len(s) > 0 {
				c.takeStatus(s[len(s)-1], time.Now())
				publish = soon(publish, c.sent, publishPause, publishDelay)
			}
		case g := <-c.gives:
			c.give(g)
		case r := <-c.rotations:
			r.done <- c.rotate(r)
		case <-c.replanned:
			c.checkListed()
			c.witnesses = nil // so that the duties are dealt out anew
			c.redeal, dirty = true, true
		case done := <-c.leaves:
			done <- c.leave()
		case answered := <-c.joiner.first:
			c.start.some, c.start.none = answered, !answered
			c.settle()
		case <-publish:
			publish = nil
			dirty = c.report(time.Now())
		case <-beat.C:
			now := time.Now()
			dirty = c.report(now)
			c.sendHeld(now)
		case <-evaluate:
			evaluate = nil
			c.evaluate(time.Now())
		case <-tick.C:
			c.tick(time.Now())
		case <-ctx.Done():
			if c.unsaved {
				c.save(nil)
			}
			return
		}
		if dirty {
			evaluate = soon(evaluate, c.evaluated, pause, 0)
		}
	}
}

// checkListed warns of a director that cannot do what operators expect of it.
func (c *core) checkListed() {
	if c.o.Role == roleDirector && !c.plan.Load().lists(c.o.Identity) {
		c.o.Log.Warn("this director's public key is not among mesh.directors: it answers, but takes no orders; give them to others")
	}
}

// tick looks at all that changes by itself with time.
func (c *core) tick(now time.Time) {
	c.redeal = c.table.forget(now) || c.redeal
	c.succeed(now)
	c.fetch(now)
	c.evaluate(now)
	c.sendYoung(now)
	if c.orders.moving(now) && now.Sub(c.stamped) >= stampPause {
		c.save(nil)
	}
	if c.owed && now.Sub(c.told) >= amountPause {
		c.tell(now)
	}
}

func (c *core) takePackets() (dirty bool) {
	for _, a := range c.gossip.packets.take() {
		m, err := decodeMessage(a.b, a.at)
		if err != nil {
			c.refuse(notUnderstood, "packet not understood", "error", err)
			continue
		}
		dirty = c.apply(m, time.Now()) || dirty
	}
	return dirty
}

func (c *core) takeStates() (dirty bool) {
	for _, a := range c.gossip.states.take() {
		m, err := decodeExchange(a.b, a.at)
		if err != nil {
			c.refuse(notUnderstood, "another node's state not understood", "error", err)
			continue
		}
		dirty = c.apply(m, time.Now()) || dirty
		if m.from == c.o.Name {
			c.start.self = true
		} else {
			c.start.peer = true
		}
	}
	if !c.isSettled() {
		c.evaluate(time.Now()) // so that whoever waits to be settled sees what came in
		c.settle()
	}
	return dirty
}

// apply takes what is new in a message, and passes on what is new and fresh. It says whether anything was.
func (c *core) apply(m message, now time.Time) (dirty bool) {
	for range m.bad {
		c.refuse(notUnderstood, "report or order not understood")
	}
	c.takeRing(m.ring)
	for _, p := range m.parts {
		switch v := c.table.apply(p, c.plan.Load().genuine, now); v {
		case applied, repeated:
			// What is known already can wait for the next tick, and all that a beat of a thousand agents brings is judged at once.
			r := c.belief.regions[p.Region]
			dirty = dirty || v == applied || r == nil || r.State != Up || r.Held
			c.redeal = c.redeal || v == applied
			if now.Sub(p.at) < c.o.Config.Lease/2 {
				c.queueReport(p, v)
			}
		case earlier:
			c.refuse(outOfDate, "report refused: of an earlier life of its agent", "agent", p.Agent, "region", p.Region, "incarnation", p.Incarnation)
		case refused:
			c.refuse(outOfBounds, "report refused: beyond a bound", "agent", p.Agent, "region", p.Region)
		case forged:
			why := "not signed by a key that the configuration lists for its region"
			if !c.plan.Load().has(p.Region) {
				why = "its region is not in this node's configuration"
			}
			c.refuse(notGenuine, "report refused: "+why, "agent", p.Agent, "region", p.Region)
		}
	}
	return c.applyOrders(m, now) || dirty
}

func (c *core) takeMembers(now time.Time) bool {
	c.counted, c.redeal = now, true
	before := c.nodes
	c.nodes = c.gossip.members.all()
	c.book.update(before, c.nodes, c.o.Name, now)
	addrs := c.book.addrs()
	c.joiner.peers.Store(&addrs)
	c.save(nil)
	return true
}

// settle closes settled when nothing better than the present view is to be waited for.
func (c *core) settle() {
	if !c.isSettled() && (c.start.peer || c.start.none || c.start.some && c.start.self) {
		close(c.settled)
	}
}

func (c *core) isSettled() bool {
	select {
	case <-c.settled:
		return true
	default:
		return false
	}
}

// save hands the memory to the scribe; done, if not nil, gets the outcome.
func (c *core) save(done chan error) {
	m := memory{Incarnation: c.number.Incarnation, Peers: c.book.list(), Numbers: c.table.numbers(), KeyFile: c.keyFile}
	if c.ring != nil {
		m.Ring = c.ring.raw
	}
	m.setRegions(c.shown.regions)
	c.stamped, c.unsaved = time.Now(), false
	c.orders.save(&m, c.o.Wall(), c.stamped)
	c.scribe.put(m, done)
}

// evaluate makes a view of all that is known at now, publishes it, and sees to what follows from its change. Agents pass on what they hear, and
// judge no region: their views have members and orders alone. What waits to be taken in is known as well: on a busy machine an agent would be
// judged silent beside its own report.
func (c *core) evaluate(now time.Time) {
	c.takePackets()
	before := c.shown
	if c.o.Role == roleDirector {
		if slept := now.Sub(c.evaluated); !c.evaluated.IsZero() && slept >= c.o.Config.Lease/2 { // it looks at least every tickMost
			c.belief.cutOff = now
			c.o.Log.Warn("this process did not run: silence is counted from now on", "for", slept.Round(time.Millisecond))
		}
		c.belief = believe(c.table, c.belief, c.plan.Load(), c.o.Config.Lease, now)
		c.shown = c.belief
		if c.orders.freeze(now) != nil {
			c.shown.regions = hold(c.belief.regions, before.regions)
		}
	}
	c.deal()
	c.evaluated = now
	carries := &carried{parts: c.table.all(), orders: c.vouchedFor(), by: c.o.Identity}
	if c.ring != nil {
		carries.ring = c.ring.raw
	}
	c.gossip.carried.Store(carries)

	old := c.view.Load()
	v := compose(c.shown, c.orders, c.nodes, now)
	diff := compare(old, v)
	v.Number = old.Number
	if diff != same {
		v.Number++
	}
	c.view.Store(v)
	switch diff {
	case amounts:
		c.owed = true
		if now.Sub(c.told) >= amountPause {
			c.tell(now)
		}
	case meaning:
		c.tell(now)
		c.logChanges(before, c.shown)
		c.logEnds(old, now)
		c.unsaved = true
	}
	if c.unsaved {
		c.save(nil)
	}
}

// deal deals out the duties of witnesses, if there are other agents than at the last time: members of which a report is known, so that
// nobody takes a duty who may not speak for its region. That a report is fresh is not asked for: in a large mesh agents hear each other
// seldom, and membership tells who died.
func (c *core) deal() {
	if c.o.Role != roleAgent || !c.redeal {
		return
	}
	c.redeal = false
	self := agentKey{c.o.Region, c.o.Name}
	heard := []agentKey{self}
	for _, n := range c.nodes {
		m := member(n)
		key := agentKey{m.Region, m.Name}
		if a := c.table.agents[key]; key != self && a != nil {
			if p := a.heard(); p != nil && !p.Leaving {
				heard = append(heard, key)
			}
		}
	}
	slices.SortFunc(heard, func(a, b agentKey) int { return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.name, b.name)) })
	if slices.Equal(heard, c.witnesses) {
		return
	}
	c.witnesses = heard
	duties := c.plan.Load().duties(self, heard)
	c.dutyList.Store(&duties)
	poke(c.duty)
}

func (c *core) tell(now time.Time) {
	c.told, c.owed = now, false
	poke(c.changed)
}

// logChanges logs one line for each region that changed, and one for the node's own isolation.
func (c *core) logChanges(before, after belief) {
	for name, r := range after.regions {
		was := before.regions[name]
		if was == nil {
			was = &Region{}
		}
		if r.State != was.State || r.Held != was.Held || r.Returning() && !was.Returning() {
			c.o.Log.LogAttrs(context.Background(), levelOf(r), "region", slog.String("region", name),
				slog.String("before", was.State.String()), slog.String("after", r.State.String()),
				slog.Bool("held", r.Held), slog.String("cause", r.Cause))
		}
	}
	switch {
	case after.isolated && !before.isolated:
		c.o.Log.Warn("most regions are silent: this node is cut off, or all of them are; the last belief is held")
	case before.isolated && !after.isolated:
		c.o.Log.Info("regions are heard again")
	}
}

func levelOf(r *Region) slog.Level {
	if r.State == Down {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
