package healthmesh

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// The pace of rejoining.
const (
	maxPeers     = 64                 // remembered; a few reach the whole mesh
	peerMemory   = 7 * 24 * time.Hour // a peer not seen for so long is given up, but for the last that were lost; seeds never are
	keptPeers    = 8                  // lost peers that are tried for ever: tries of more that are gone would only hold up a round
	rejoinFirst  = 500 * time.Millisecond
	rejoinLast   = 5 * time.Second // between two tries, so that a partition of any length heals within 10 s of its end
	rejoinAtOnce = 16              // tries at one time: more than a usual mesh has seeds, so that one that answers is found at once
	lookupTime   = 2 * time.Second // for a seed's name
	seedTime     = 2 * time.Second // in which tries of its addresses begin; a name can have hundreds that do not answer
)

// A joiner brings this node together with the nodes that it should know and does not: seeds and remembered peers that are
// not members. For ever, since memberlist itself forgets the dead after a minute and so never heals a longer partition.
type joiner struct {
	seeds   []string // as configured; immutable
	self    []string // addresses of this node; immutable
	members *members
	join    func(addr string) error
	log     *slog.Logger
	peers   atomic.Pointer[[]string] // addresses of remembered peers; set by the mesh's goroutine
	first   chan bool                // gets, after the first round, whether any seed answered

	mu    sync.Mutex
	known map[string]bool // guarded by mu: whether a seed answered at the last try; absent before the first
}

// run tries until ctx ends.
func (j *joiner) run(ctx context.Context) {
	wait := rejoinFirst
	for round := 0; ; round++ {
		answered := j.round(ctx)
		if round == 0 {
			j.first <- answered
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)): // jitter: nodes that lost each other at once do not try at once
		case <-ctx.Done():
			return
		}
		wait = min(wait*2, rejoinLast*2/3) // so that with its jitter it is at most rejoinLast
	}
}

// A claim is what of a round is taken: addresses that need no try, or have one.
type claim struct {
	mu    sync.Mutex
	taken map[string]bool // guarded by mu
}

func (c *claim) take(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := !c.taken[addr]
	c.taken[addr] = true
	return mine
}

// round tries the seeds and peers that are neither members nor this node, some at one time, seeds first: one that hangs,
// or whose name does, holds up no other. It says whether any answered.
func (j *joiner) round(ctx context.Context) bool {
	c := &claim{taken: make(map[string]bool)}
	for _, addr := range j.self {
		c.take(addr)
	}
	for _, n := range j.members.all() {
		c.take(hostPort(n))
	}
	var answered atomic.Bool
	var group errgroup.Group // its functions give no errors: outcome tells them
	group.SetLimit(rejoinAtOnce)
	for _, seed := range j.seeds {
		group.Go(func() error {
			if j.trySeed(ctx, seed, c) {
				answered.Store(true)
			}
			return nil
		})
	}
	for _, addr := range *j.peers.Load() {
		group.Go(func() error {
			if ctx.Err() == nil && c.take(addr) && j.join(addr) == nil {
				answered.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait() // see above
	return answered.Load()
}

// trySeed resolves a seed anew, joins each of its addresses that is not taken, and says whether any answered. Their order is random, so that
// those for which the time is too short have their turn in another round.
func (j *joiner) trySeed(ctx context.Context, seed string, c *claim) (answered bool) {
	if ctx.Err() != nil {
		return false
	}
	addrs, err := resolve(ctx, seed)
	tried := err != nil
	rand.Shuffle(len(addrs), func(i, k int) { addrs[i], addrs[k] = addrs[k], addrs[i] })
	for began, i := time.Now(), 0; i < len(addrs) && ctx.Err() == nil && time.Since(began) < seedTime; i++ {
		addr := addrs[i]
		if !c.take(addr) {
			continue
		}
		tried = true
		if failed := j.join(addr); failed != nil {
			err = failed
		} else {
			answered = true
		}
	}
	if answered {
		err = nil // one address of a name is enough
	}
	if tried && ctx.Err() == nil {
		j.outcome(seed, err)
	}
	return answered
}

// outcome logs a seed's change between answering and not.
func (j *joiner) outcome(seed string, err error) {
	j.mu.Lock()
	before, tried := j.known[seed]
	j.known[seed] = err == nil
	j.mu.Unlock()
	switch {
	case err == nil && !(tried && before):
		j.log.Info("seed joined", "seed", seed)
	case err != nil && (!tried || before):
		j.log.Warn("seed does not answer, trying on", "seed", seed, "error", err)
	}
}

// resolve returns the addresses of "host:port".
func resolve(ctx context.Context, seed string) ([]string, error) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, ip := range ips {
		addrs = append(addrs, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return addrs, nil
}

// peerBook is which nodes were members, and when. Owned by the mesh's goroutine.
type peerBook map[string]peer

// update notes the members of before, which were so until now, and of now, and drops who is out of memory. The last that were lost never
// are, so that a mesh without seeds heals, too.
func (b peerBook) update(before, members []memberlist.Node, self string, now time.Time) {
	note := func(nodes []memberlist.Node, seen time.Time) {
		for _, n := range nodes {
			if n.Name != self {
				b[n.Name] = peer{n.Name, hostPort(n), seen}
			}
		}
	}
	note(before, now.Add(-1))
	note(members, now)
	lost, others := 0, 0
	for _, p := range b.list() {
		gone := p.Seen.Before(now)
		if gone {
			lost++
		}
		if gone && lost <= keptPeers {
			continue
		}
		if others++; others > maxPeers-keptPeers || now.Sub(p.Seen) > peerMemory {
			delete(b, p.Name)
		}
	}
}

// list is the book with the last seen first, by name among equals.
func (b peerBook) list() []peer {
	all := make([]peer, 0, len(b))
	for _, p := range b {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b peer) int {
		if c := b.Seen.Compare(a.Seen); c != 0 {
			return c
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

func (b peerBook) addrs() []string {
	var addrs []string
	for _, p := range b.list() {
		addrs = append(addrs, p.Addr)
	}
	return addrs
}
