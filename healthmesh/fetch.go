package healthmesh

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// The bounds of fetching.
const (
	fetchBeats  = 1.5 // of an agent's silence, in beats: a report is late, and half a lease is not over yet
	fetchAtOnce = 16  // streams; the rest is asked at the next look, a quarter of a beat later
	missBeats   = 2   // of an agent's silence, in beats, after which another director is asked, too
	missLeases  = 2   // of silence, after which it is not: the others do not hear the agent either
)

// A fetcher asks members over a stream for what they have, where their packets do not come: all are lost where UDP is blocked and
// TCP is not, and memberlist holds such a node for a member, as its own probes go over TCP then. Who is dead or cut off gives nothing,
// and is soon no member.
type fetcher struct {
	pull   func(addr string) error // both sides tell all that they have
	pause  time.Duration           // at least between two streams to one address
	wanted chan string             // has room for all that is in busy

	mu   sync.Mutex
	busy map[string]bool // guarded by mu: addresses that are asked, or were within the pause
}

func newFetcher(beat time.Duration) *fetcher {
	return &fetcher{pause: beat, wanted: make(chan string, fetchAtOnce), busy: make(map[string]bool)}
}

// ask has a node asked, unless it is, or as many as can be are. It never blocks.
func (f *fetcher) ask(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.busy[addr] && len(f.busy) < fetchAtOnce {
		f.busy[addr] = true
		f.wanted <- addr
	}
}

// run asks until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case addr := <-f.wanted:
			asking.Go(func() {
				_ = f.pull(addr) // who does not answer is silent, which the view says
				sleep(ctx, f.pause)
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(f.busy, addr)
			})
		case <-ctx.Done():
			return
		}
	}
}

// fetch has agents asked that are members and silent and, where one remains so, another director, which may hear it: once a beat at
// most, since it tells all that it has. Only directors ask: they tell the agents when they do.
func (c *core) fetch(now time.Time) {
	if c.o.Role != roleDirector {
		return
	}
	beat, missing := c.o.Config.Beat, false
	for _, n := range c.nodes {
		m := member(n)
		if m.Role != roleAgent {
			continue
		}
		a := c.table.agents[agentKey{m.Region, m.Name}]
		if a == nil || now.Sub(a.at) > time.Duration(fetchBeats*float64(beat)) {
			c.fetcher.ask(hostPort(n))
		}
		missing = missing || a != nil && now.Sub(a.at) > missBeats*beat && now.Sub(a.at) < missLeases*c.o.Config.Lease
	}
	if others := c.directors(); missing && len(others) > 0 && now.Sub(c.asked) >= beat {
		c.asked = now
		c.fetcher.ask(hostPort(others[rand.IntN(len(others))]))
	}
}
