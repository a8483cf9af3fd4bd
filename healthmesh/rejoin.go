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
)

// The pace of rejoining.
const (
	maxPeers     = 64                 // remembered; a few reach the whole mesh
	peerMemory   = 7 * 24 * time.Hour // a peer not seen for so long is given up; seeds never are
	rejoinFirst  = 500 * time.Millisecond
	rejoinLast   = 5 * time.Second // between two tries, so that a partition of any length heals within 10 s of its end
	rejoinAtOnce = 8               // tries at one time
	lookupTime   = 2 * time.Second // for a seed's name
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
		answered := j.round(ctx, j.missing(ctx))
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

// A try is an address to join, and the seed that it comes from; "" for a peer.
type try struct{ addr, seed string }

// missing are the addresses of seeds and peers that are neither members nor this node. Names are resolved anew.
func (j *joiner) missing(ctx context.Context) []try {
	have := slices.Clone(j.self)
	for _, n := range j.members.all() {
		have = append(have, hostPort(n))
	}
	var tries []try
	add := func(addr, seed string) {
		if !slices.Contains(have, addr) {
			have = append(have, addr)
			tries = append(tries, try{addr, seed})
		}
	}
	for _, seed := range j.seeds {
		addrs, err := resolve(ctx, seed)
		if err != nil {
			j.outcome(seed, err)
		}
		for _, addr := range addrs {
			add(addr, seed)
		}
	}
	if peers := j.peers.Load(); peers != nil {
		for _, addr := range *peers {
			add(addr, "")
		}
	}
	return tries
}

// round tries all, and says whether any answered.
func (j *joiner) round(ctx context.Context, tries []try) bool {
	var answered atomic.Bool
	var wg sync.WaitGroup
	free := make(chan struct{}, rejoinAtOnce)
	for _, t := range tries {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-free }()
			err := j.join(t.addr)
			if err == nil {
				answered.Store(true)
			}
			if t.seed != "" && ctx.Err() == nil {
				j.outcome(t.seed, err)
			}
		})
	}
	wg.Wait()
	return answered.Load()
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

// update notes the members of now and drops who is out of memory.
func (b peerBook) update(members []memberlist.Node, self string, now time.Time) {
	for _, n := range members {
		if n.Name != self {
			b[n.Name] = peer{n.Name, hostPort(n), now.Round(0)}
		}
	}
	for name, p := range b {
		if now.Sub(p.Seen) > peerMemory {
			delete(b, name)
		}
	}
	if all := b.list(); len(all) > maxPeers {
		for _, p := range all[maxPeers:] {
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
