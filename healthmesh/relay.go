package healthmesh

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// How orders travel: who takes one sends it to the other directors at once, again on every tick while it is young, and by gossip; who gets
// one by a packet passes the packet on as it came. Each director sends the others what it holds on every beat, and push/pull carries all.
// So a lost packet costs a tick, and what a partition kept apart is told within a beat of its end.
const (
	youngFor     = time.Second // with four ticks in it, of 1,000 orders on a path that loses a fifth of its packets less than one misses it
	orderPackets = 4           // on each beat to each director: the newest orders in the first, the others take turns
	stampPause   = time.Minute // between writings of orders that end by themselves, so that a restart knows how old they are
)

var errUnlisted = errors.New("this director's public key is not among those that may give orders, so that no other would take its word")

// give takes an operator's order, and tells its outcome when the order is on disk.
func (c *core) give(g giving) {
	now := time.Now()
	if !c.plan.Load().lists(c.o.Identity) {
		g.done <- errUnlisted
		return
	}
	o, err := c.orders.give(g.order, c.o.Name, c.o.Wall(), now)
	if err != nil {
		g.done <- err
		return
	}
	c.logOrder("order", o)
	m := ordersMessage(sealed([]Order{o}, c.o.Identity, now))
	c.queueOrders(o.slot(), m)
	c.toDirectors(m)
	c.evaluate(now)
	c.save(g.done)
}

// applyOrders takes what is new among the orders of a message, has it written to disk, and passes a packet with something new on. It says
// whether anything was. What takes back nothing that was in force here is written, too: another may hold what it takes back.
func (c *core) applyOrders(m message, now time.Time) (dirty bool) {
	if m.seal == nil {
		return false
	}
	if !c.plan.Load().vouched(*m.seal) {
		c.refuse(notGenuine, "orders refused: not signed by a key that the configuration lists for directors", "key", hex.EncodeToString(m.seal.signature[:min(len(m.seal.signature), len(keyID{}))]))
		return false
	}
	for _, o := range m.seal.orders {
		switch v, _ := c.orders.apply(o, now); v {
		case applied:
			if !dirty && m.raw != nil {
				c.queueOrders(o.slot(), m.raw)
			}
			dirty = true
			c.logOrder("order", o)
		case refused:
			c.refuse(outOfBounds, "order refused: beyond a bound", "region", o.Region, "kind", o.Kind, "by", o.By)
		}
	}
	c.unsaved = c.unsaved || dirty
	return dirty
}

func (c *core) queueOrders(s slot, packet []byte) {
	c.gossip.orderQueue.QueueBroadcast(&broadcast{name: s.name(), b: packet})
}

// name is what newer packets about the slot take the place by in a queue; no two slots share one.
func (s slot) name() string {
	if s.shed {
		return s.region + " " + Shed
	}
	return s.region
}

// sendYoung sends the orders that are young to the other directors once more.
func (c *core) sendYoung(now time.Time) {
	young := slices.DeleteFunc(c.orders.newestFirst(), func(o Order) bool { return o.age(now) >= youngFor })
	c.sendOrders(young, orderPackets, now)
}

// sendHeld sends the other directors what this one holds: the newest, and of the others those whose turn it is.
func (c *core) sendHeld(now time.Time) {
	all := c.orders.newestFirst()
	rest := all[c.sendOrders(all, 1, now):]
	if len(rest) == 0 {
		return
	}
	c.turn %= len(rest)
	c.turn += c.sendOrders(slices.Concat(rest[c.turn:], rest[:c.turn]), orderPackets-1, now)
}

// sendOrders sends as many of the orders as fit some packets to the other directors, and returns how many these are. A node whose word on orders nobody
// takes sends none, nor does an agent: it passes on what directors sent.
func (c *core) sendOrders(list []Order, packets int, now time.Time) (sent int) {
	if c.o.Role != roleDirector || !c.plan.Load().lists(c.o.Identity) || len(c.directors()) == 0 {
		return len(list)
	}
	for ; packets > 0 && sent < len(list); packets-- {
		n := fitting(list[sent:])
		c.toDirectors(ordersMessage(sealed(list[sent:sent+n], c.o.Identity, now)))
		sent += n
	}
	return sent
}

// vouchedFor are the orders that push/pull carries from this node.
func (c *core) vouchedFor() []Order {
	if !c.plan.Load().lists(c.o.Identity) {
		return nil
	}
	return c.orders.newestFirst()
}

// logEnds logs the orders of a view that ended by themselves since.
func (c *core) logEnds(old *View, now time.Time) {
	for _, o := range old.inForce() {
		if held := c.orders.held[o.slot()]; sameOrder(o, &held) && !held.inForce(now) {
			c.logOrder("order has ended", held)
		}
	}
}

func (c *core) logOrder(what string, o Order) {
	c.o.Log.Info(what, "region", o.Region, "kind", o.Kind, "share", o.Share, "over", o.Over, "for", o.For,
		"owner", o.Owner, "reason", o.Reason, "by", o.By, "at", o.At)
}
