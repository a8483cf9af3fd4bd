package healthmesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// A Disk keeps a node's memory: one blob, a few megabytes at most. Its calls may hang: the mesh makes them where nothing else waits.
type Disk interface {
	Read() ([]byte, error) // fs.ErrNotExist if none was written
	Write(b []byte) error  // whole or not at all
	SetAside() error       // what was written is of no use
	String() string        // its name in logs and errors
}

const (
	diskVersion = 2
	diskFile    = "mesh.json"
	maxDiskFile = 64 << 20 // bytes that are read: the bounds of regions, endpoints, orders and peers stay below
	maxWaiters  = 64       // orders that wait for the disk at once; each is an operator's call
)

// memory is what a node keeps over restarts.
type memory struct {
	Version     int                    `json:"version"`
	Incarnation uint64                 `json:"incarnation"` // of this node's last life
	Regions     map[string]savedRegion `json:"regions"`
	Orders      []savedOrder           `json:"orders"`
	Clock       time.Time              `json:"clock"`   // the largest time of an order that was seen
	Written     time.Time              `json:"written"` // by the wall clock: the orders have their ages at this time
	Peers       []peer                 `json:"peers"`
	Numbers     []savedNumber          `json:"numbers,omitempty"`  // of agents
	Ring        []byte                 `json:"ring,omitempty"`     // the mesh's keys, signed; absent before the first change at run time
	KeyFile     string                 `json:"key_file,omitempty"` // names the contents of the key file that the ring took the place of
}

// A savedNumber is the newest report that was had of an agent.
type savedNumber struct {
	Region      string `json:"region"`
	Agent       string `json:"agent"`
	Incarnation uint64 `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

type savedRegion struct {
	State     State                   `json:"state"`
	Cause     string                  `json:"cause"`
	Since     time.Time               `json:"since"`
	Fault     Stamp                   `json:"fault,omitempty"`
	Capacity  float64                 `json:"capacity"`
	Endpoints map[EndpointID]Endpoint `json:"endpoints,omitempty"`
}

// A peer is a node that was a member, to be joined again.
type peer struct {
	Name string    `json:"name"`
	Addr string    `json:"addr"`
	Seen time.Time `json:"seen"` // when it was last a member
}

// recall reads the memory on the disk. What cannot be used is set aside: a node with no memory serves better than none.
func recall(disk Disk, log *slog.Logger) (memory, error) {
	m, err := readMemory(disk)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	log.Error("the mesh's memory cannot be used and is set aside", "in", disk, "error", err)
	if err := disk.SetAside(); err != nil {
		return memory{}, fmt.Errorf("%v is bad and cannot be set aside: %w", disk, err)
	}
	return memory{}, nil
}

func readMemory(disk Disk) (memory, error) {
	b, err := disk.Read()
	if err != nil {
		return memory{}, err
	}
	var m memory
	if err := json.Unmarshal(b, &m); err != nil {
		return memory{}, err
	}
	return m, m.check()
}

func (m memory) check() error {
	if m.Version != diskVersion {
		return fmt.Errorf("version %d, only %d is known", m.Version, diskVersion)
	}
	if len(m.Regions) > maxRegions || len(m.Orders) > maxOrders || len(m.Peers) > maxPeers || len(m.Numbers) > maxAgents {
		return fmt.Errorf("%d regions, %d orders, %d peers, %d agents, at most %d, %d, %d, %d are accepted",
			len(m.Regions), len(m.Orders), len(m.Peers), len(m.Numbers), maxRegions, maxOrders, maxPeers, maxAgents)
	}
	for name, r := range m.Regions {
		if !validName(name, maxRegionName) || r.State > Down || len(r.Endpoints) > maxEndpoints {
			return fmt.Errorf("region %q in state %d with %d endpoints", name, r.State, len(r.Endpoints))
		}
		for id, e := range r.Endpoints {
			if e.State > Down {
				return fmt.Errorf("region %q with endpoint %x in state %d", name, id, e.State)
			}
		}
	}
	for _, o := range m.Orders {
		if err := o.check(); err != nil {
			return err
		}
	}
	return nil
}

// regions are the regions to believe in until they are heard.
func (m memory) regions() map[string]*Region {
	all := make(map[string]*Region, len(m.Regions))
	for name, r := range m.Regions {
		all[name] = &Region{
			State: r.State, Held: true, Cause: r.Cause, Since: r.Since, Fault: r.Fault, Source: sourceDisk,
			Capacity: amount(r.Capacity), Endpoints: r.Endpoints,
		}
	}
	return all
}

func (m *memory) setRegions(regions map[string]*Region) {
	m.Regions = make(map[string]savedRegion, len(regions))
	for name, r := range regions {
		m.Regions[name] = savedRegion{r.State, r.Cause, r.Since, r.Fault, r.Capacity, r.Endpoints}
	}
}

// write puts the memory on disk, whole or not at all.
func (m memory) write(disk Disk) error {
	m.Version = diskVersion
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return disk.Write(b)
}

// A scribe writes memories to disk on its own goroutine, so that a disk that hangs stops nothing else. It has one
// slot: a newer memory takes the place of one that waits.
type scribe struct {
	disk  Disk
	log   *slog.Logger
	ready chan struct{} // has a token when a memory waits

	mu      sync.Mutex
	next    *memory      // guarded by mu
	waiters []chan error // guarded by mu: who wants to know when next is on disk
}

func newScribe(disk Disk, log *slog.Logger) *scribe {
	return &scribe{disk: disk, log: log, ready: make(chan struct{}, 1)}
}

// put hands over a memory, which must not change any more. done, if not nil, has room for one error and gets the outcome.
func (s *scribe) put(m memory, done chan error) {
	s.mu.Lock()
	s.next = &m
	if done != nil {
		if len(s.waiters) < maxWaiters {
			s.waiters = append(s.waiters, done)
		} else {
			done <- fmt.Errorf("%w: %d others wait for it already", ErrUnsaved, maxWaiters)
		}
	}
	s.mu.Unlock()
	poke(s.ready)
}

// run writes until stop is closed, and then what still waits.
func (s *scribe) run(stop <-chan struct{}) {
	failing := false
	for {
		select {
		case <-s.ready:
			s.flush(&failing)
		case <-stop:
			s.flush(&failing)
			return
		}
	}
}

func (s *scribe) flush(failing *bool) {
	s.mu.Lock()
	m, waiters := s.next, s.waiters
	s.next, s.waiters = nil, nil
	s.mu.Unlock()
	if m == nil {
		return
	}
	err := m.write(s.disk)
	switch {
	case err != nil && !*failing:
		s.log.Error("the mesh's memory cannot be written", "error", err)
	case err == nil && *failing:
		s.log.Info("the mesh's memory is written again", "in", s.disk)
	}
	*failing = err != nil
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	for _, done := range waiters {
		done <- err
	}
}

// A folder is the Disk of a node on a machine: a file of its own in its state folder.
type folder string

func (f folder) String() string { return "state folder " + string(f) }
func (f folder) file() string   { return filepath.Join(string(f), diskFile) }

func (f folder) Read() ([]byte, error) {
	info, err := os.Stat(f.file())
	switch {
	case err != nil:
		return nil, err
	case info.Size() > maxDiskFile:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are accepted", f.file(), info.Size(), maxDiskFile)
	}
	return os.ReadFile(f.file())
}

func (f folder) Write(b []byte) error {
	if err := renameio.WriteFile(f.file(), b, 0o600); err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	return nil
}

func (f folder) SetAside() error { return os.Rename(f.file(), f.file()+".bad") }
