package steer_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// A simnode is a machine with its disk, its clock, and the process on it. Owned by the simulation's goroutine.
type simnode struct {
	sim          *simulation
	index        int
	name, region string // region of an agent
	ip           string
	disk         *memoryDisk
	wall         atomic.Int64 // how far its wall clock is ahead

	life   *life // nil while no process runs
	paused bool
	moves  int  // to other addresses
	forges bool // of one that no region has a place for
	key    *healthmesh.Identity
	blind  int           // faults that keep its probes of other regions from their targets
	lies   int           // faults that make the agent lie
	noUDP  int           // faults that block its packets and not its streams
	died   time.Time     // when the last process ended
	away   time.Duration // how long it had no process, in all
}

// A life is one process.
type life struct {
	mesh    *healthmesh.Mesh
	station *station
	keeper  atomic.Pointer[steer.Keeper] // of a director; nil until it serves
	stop    context.CancelFunc
	running sync.WaitGroup
	joined  bool // it was seen to have joined another
	leaves  bool // it is told to end
	ends    bool // it is closed
	checked bool // an agent's checks have said something
}

// runs says whether the node does what it should.
func (n *simnode) runs() bool { return n.life != nil && !n.paused && !n.life.leaves }

func (n *simnode) director() bool { return n.region == "" }

func (n *simnode) addr() string { return n.ip + ":7946" }

func (n *simnode) now() time.Time { return time.Now().Add(time.Duration(n.wall.Load())) }

// start begins a life with what is on the disk.
func (n *simnode) start() {
	if n.life != nil {
		return
	}
	l := &life{station: n.sim.net.station(n.ip, 7946)}
	o := healthmesh.Options{
		Name: n.name, Role: "agent", Region: n.region, Log: n.sim.log.With("node", n.name),
		Transport: l.station, Wall: n.now, Disk: n.disk, Plan: n.sim.plan(), Identity: cmp.Or(n.key, n.sim.world.keys[cmp.Or(n.region, n.name)]),
		Config: healthmesh.Config{Listen: n.addr(), Join: n.sim.seeds},
	}
	if n.director() {
		o.Role = "director"
	}
	if n.forges {
		o.Plan.Directors = nil // or it would not give an order
	}
	m, err := healthmesh.Start(o)
	if err != nil {
		n.sim.violated("%s does not start: %v", n.name, err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	l.mesh, l.stop = m, stop
	n.life, n.paused = l, false
	if !n.died.IsZero() {
		n.away += time.Since(n.died)
		if n.director() || !n.sim.listed {
			n.sim.restarted(n, n.disk.ahead() != time.Duration(n.wall.Load()))
		}
	}
	if n.director() {
		if !n.forges {
			n.sim.checkOrders(n, m.View()) // before anybody could tell it
		}
		l.running.Go(func() { n.serve(ctx, l) })
		return
	}
	n.publish()
	n.sim.after(700*time.Millisecond, func() {
		if n.life == l {
			l.checked = true
			n.publish()
		}
	})
}

// serve is what a director does.
func (n *simnode) serve(ctx context.Context, l *life) {
	settle, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	l.mesh.Settled(settle)
	k := steer.NewKeeper(n.sim.world.survey, l.mesh, n.sim.log.With("node", n.name), nil)
	l.keeper.Store(k)
	k.Run(ctx)
}

// publish is what an agent does when its checks or its load say something new.
func (n *simnode) publish() {
	if n.runs() && !n.director() {
		n.life.mesh.Publish(n.sim.status(n))
	}
}

// kill ends the process without a word; of a dark machine, not even the network tells.
func (n *simnode) kill(dark bool) {
	l := n.life
	if l == nil {
		return
	}
	l.station.close(dark)
	if n.disk.behind() {
		n.sim.forgot(n)
	}
	n.disk = n.disk.cutOff()
	n.life, n.paused, n.died = nil, false, time.Now()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	n.end(l, gone)
}

// leave ends the process as SIGTERM does.
func (n *simnode) leave() {
	l := n.life
	if !n.runs() {
		return
	}
	l.leaves = true
	n.end(l, context.Background())
	n.sim.after(3*time.Second, func() {
		if n.life == l {
			n.life, n.died = nil, time.Now()
		}
	})
}

func (n *simnode) end(l *life, ctx context.Context) {
	if l.ends {
		return
	}
	l.ends = true
	n.sim.ending.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		err := l.mesh.Close(ctx)
		l.stop()
		l.running.Wait()
		if err != nil && ctx.Err() == context.DeadlineExceeded {
			n.sim.failures <- fmt.Sprintf("%s does not end: %v", n.name, err)
		}
	})
}

func (n *simnode) pause() {
	if n.runs() {
		n.paused = true
		n.life.station.pause()
	}
}

func (n *simnode) resume() {
	if n.paused {
		n.paused, n.sim.resumed = false, time.Now()
		n.life.station.resume()
		n.publish()
	}
}

// A memoryDisk is a Disk that can be full, and that no longer gets what a process writes after it was killed.
type memoryDisk struct {
	mu   sync.Mutex
	blob []byte    // guarded by mu
	last []byte    // guarded by mu: what a process wrote last, whether it is on the disk or not
	at   time.Time // guarded by mu: when blob was written
	full bool      // guarded by mu
	off  bool      // guarded by mu
	lost int       // guarded by mu: writes that failed since the last that did not
}

var errFull = errors.New("no space left on device")

func (d *memoryDisk) Read() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blob == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(d.blob), nil
}

func (d *memoryDisk) Write(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = slices.Clone(b)
	switch {
	case d.off:
	case d.full:
		d.lost++
		return errFull
	default:
		d.blob, d.at, d.lost = d.last, time.Now(), 0
	}
	return nil
}

func (d *memoryDisk) String() string { return "disk in memory" }

func (d *memoryDisk) SetAside() error { return errors.New("a memory that cannot be used was written") }

// A simMemory is what is looked at of a node's memory.
type simMemory struct {
	Orders []struct {
		Order healthmesh.Order `json:"order"`
	} `json:"orders"`
	Written time.Time `json:"written"`
}

func parseMemory(b []byte) (m simMemory) {
	_ = json.Unmarshal(b, &m) // what is not there is missed
	return m
}

// order finds an order in what a process wrote last.
func (d *memoryDisk) order(reason string) (found healthmesh.Order, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, saved := range parseMemory(d.last).Orders {
		if saved.Order.Reason == reason {
			return saved.Order, true
		}
	}
	return found, false
}

// ahead is how far the wall clock was when what is on the disk was written.
func (d *memoryDisk) ahead() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blob == nil {
		return 0
	}
	return parseMemory(d.blob).Written.Sub(d.at).Round(time.Millisecond)
}

// cutOff ends a process' writing, and returns the disk as the next one finds it.
func (d *memoryDisk) cutOff() *memoryDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	return &memoryDisk{blob: d.blob, at: d.at, full: d.full, lost: d.lost}
}

func (d *memoryDisk) set(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// behind says whether what a process knows did not get to the disk.
func (d *memoryDisk) behind() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost > 0
}
