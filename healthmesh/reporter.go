package healthmesh

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// What the mesh's goroutine says of its own agent, and to whom.

const maxDirect = 32 // directors that reports and orders are sent to directly; gossip brings them to the others

// report sends this agent's state of its region, if there is one to send.
func (c *core) report(now time.Time) bool {
	if c.status == nil || c.left {
		return false
	}
	c.emit(*c.status, false, now)
	return true
}

// takeStatus makes s what own reports say. An endpoint whose state has no time has it since it was first said.
func (c *core) takeStatus(s Status, now time.Time) {
	for id, e := range s.Endpoints {
		if !e.At.IsZero() {
			continue
		}
		e.At = now
		if c.status != nil && c.status.Endpoints[id].State == e.State && !c.status.Endpoints[id].At.IsZero() {
			e.At = c.status.Endpoints[id].At
		}
		s.Endpoints[id] = e
	}
	c.status = &s
}

// emit makes a report, takes it in, and sends it: to the directors at once, which makes the mesh as fast as the network
// and costs the same on every beat; and by gossip, which finds its way around a broken link.
func (c *core) emit(s Status, leaving bool, now time.Time) (messages [][]byte) {
	c.number.Sequence++
	c.sent = now
	head := report{Agent: c.o.Name, Region: c.o.Region, numbering: c.number, Elapsed: uint64(now.Sub(c.born).Milliseconds()), Leaving: leaving}
	for _, r := range split(head, s, c.born) {
		p := c.signed(r, now)
		c.queueReport(p, c.table.apply(p, func(*part) bool { return true }, now))
		m := reportMessage(p, now)
		c.toDirectors(m)
		messages = append(messages, m)
	}
	return messages
}

// signed is a report of this agent as it goes out.
func (c *core) signed(r report, now time.Time) *part {
	body := r.encode(make([]byte, 0, maxReport))
	raw := c.o.Identity.sign(signReport, body)
	return &part{report: r, raw: raw, body: raw[:len(body)], signature: raw[len(body):], at: now}
}

// leave makes the last report and returns its message, nil if there is nothing to say.
func (c *core) leave() []byte {
	if c.status == nil || c.left {
		return nil
	}
	c.left = true
	return c.emit(Status{}, true, time.Now())[0]
}

// succeed makes this agent the successor of a life of which the table has a larger number, once that life is
// silent: its memory was lost and its clock set back. While the other is heard, or if it was heard when this life was older than a lease,
// it is this one that is the past, a process that was stopped and woke up, say. It must not take over, ever: that it does not hear its
// successor says nothing, since the others send to the successor's address what is for this name.
func (c *core) succeed(now time.Time) {
	a := c.table.agents[agentKey{c.o.Region, c.o.Name}]
	if c.status == nil || c.left || a == nil || !a.newest.after(c.number) {
		return
	}
	if now.Sub(a.at) < c.o.Config.Lease {
		if !c.usurped {
			c.usurped = true
			c.o.Log.Error("another agent reports under this one's name with a later incarnation, this one is not heard",
				"name", c.o.Name, "incarnation", c.number.Incarnation, "later", a.newest.Incarnation)
		}
		return
	}
	if a.at.Sub(c.born) > c.o.Config.Lease {
		return
	}
	c.usurped = false
	c.number, c.born = numbering{Incarnation: a.newest.Incarnation + 1}, now
	c.o.Log.Warn("an earlier life of this agent had a later incarnation, taking the next one", "incarnation", c.number.Incarnation)
	c.save(nil)
	c.report(now)
}

// queueReport passes a report on. What changed goes before what did not, or it would wait among the beats of a large mesh.
func (c *core) queueReport(p *part, v verdict) {
	queue := &c.gossip.beatQueue
	if v == applied {
		queue = &c.gossip.changeQueue
	}
	queue.QueueBroadcast(&broadcast{name: p.Region + " " + p.Agent + " " + string(rune(p.Part)), p: p})
}

// directors are the members to send to directly.
func (c *core) directors() []memberlist.Node {
	var all []memberlist.Node
	for _, n := range c.nodes {
		if member(n).Role == roleDirector && n.Name != c.o.Name && len(all) < maxDirect {
			all = append(all, n)
		}
	}
	return all
}

func (c *core) toDirectors(m []byte) {
	for _, n := range c.directors() {
		if err := c.send(n, m); err != nil {
			c.o.Log.Debug("packet to a director not sent", "director", n.Name, "error", err) // gossip sends it again
		}
	}
}
