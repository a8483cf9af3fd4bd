package steer_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

var (
	simSeed      = flag.Uint64("seed", 0, "simulate this schedule alone")
	simTimes     = flag.Int("times", 1, "with -seed: how often")
	simSchedules = flag.Int("schedules", 0, "simulate so many schedules; 0: 100, or 10 with -short")
	simLong      = flag.Duration("long", 0, "simulate schedules that nobody has seen for so long; -timeout has to be longer")
)

// Whole meshes in virtual time: whatever happens to networks, machines, clocks, agents and operators, what
// simulation.check says holds at every moment.
//
// A failure prints its seed and what happened, shortened to what is needed for it, and
//
//	go test ./steer -run TestSimulation -seed=N -times=20
//
// plays it again. The schedule follows from its seed, to the nanosecond; what memberlist draws, and which of two
// goroutines is first, does not: so play it some times.
func TestSimulation(t *testing.T) {
	worlds := makeWorlds(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // meshes are small and make much garbage
	var next, done atomic.Uint64
	began := time.Now()
	more := func() (seed uint64, ok bool) {
		n := next.Add(1)
		switch {
		case *simSeed != 0:
			return *simSeed, n <= uint64(*simTimes)
		case *simLong != 0:
			return uint64(began.UnixNano()) + n, time.Since(began) < *simLong
		case *simSchedules != 0:
			return n, n <= uint64(*simSchedules)
		case testing.Short():
			return n, n <= 10
		}
		return n, n <= 100
	}
	t.Run("schedules", func(t *testing.T) {
		for w := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", w), func(t *testing.T) {
				t.Parallel()
				for seed, ok := more(); ok && !t.Failed(); seed, ok = more() {
					s := draw(seed)
					if v := simulate(t, worlds, s); v != nil {
						s, v = shorten(t, worlds, s, v)
						t.Errorf("%v\n%s%s", v, s, v.log)
					}
					done.Add(1)
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d schedules in %v, %.1f a second", done.Load(), took.Round(time.Millisecond), float64(done.Load())/took.Seconds())
}

// shortenTries are how often a schedule without one event may hold before the event is taken for needed.
const shortenTries = 3

// shorten leaves out the events that a violation does not need.
func shorten(t *testing.T, worlds []*simWorld, s schedule, v *violation) (schedule, *violation) {
	for i := len(s.events) - 1; i >= 0; i-- {
		shorter := s
		shorter.events = slices.Delete(slices.Clone(s.events), i, i+1)
		for range shortenTries {
			if again := simulate(t, worlds, shorter); again != nil && again.rule == v.rule {
				s, v = shorter, again
				break
			}
		}
	}
	return s, v
}

// A violation is what a simulation found.
type violation struct {
	seed uint64
	at   time.Duration
	rule string // what does not hold
	what string
	log  string
}

func (v *violation) Error() string {
	return fmt.Sprintf("seed %d at %.3fs: %s: %s", v.seed, v.at.Seconds(), v.rule, v.what)
}

// A simulation is one run of a schedule. One goroutine, that of run, owns it.
type simulation struct {
	schedule
	world    *simWorld
	net      *simnet
	rng      *rand.Rand
	log      *slog.Logger
	journal  *journal
	began    time.Time
	nodes    []*simnode
	seeds    []string
	regions  []*simRegion
	past     []*life // of twins
	forgers  []*simnode
	actions  []action       // by time
	ending   sync.WaitGroup // processes that end
	failures chan string    // of theirs
	found    *violation

	changed time.Time                     // when all agents know of the last change
	resumed time.Time                     // when a node last went on after a pause
	bad     bool                          // the weather excuses everything
	strict  int                           // reloads that bind regions and orders to keys
	reached map[[2]*simnode]reach         // from, to a director
	answers map[string]answered           // by what a view says
	seen    map[*life]*lookout            // of directors
	cut     map[*simnode]*healthmesh.View // what directors believed that are cut off from all regions
	thaws   time.Time                     // when the last freeze has ended and all that happened meanwhile is known
	orders  []*given                      // as they were given
	noted   map[*simnode]*noteBook        // what a director's memory must hold
}

// An action is something to do at a time.
type action struct {
	at   time.Time
	what string
	do   func()
}

// simulate plays a schedule; nil if all held.
func simulate(t *testing.T, worlds []*simWorld, s schedule) (found *violation) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(worlds, s)
		sim.run()
		sim.close()
		found = sim.found
	})
	return found
}

func newSimulation(worlds []*simWorld, s schedule) *simulation {
	sim := &simulation{
		schedule: s, world: worlds[len(s.regions)], began: time.Now(), rng: rand.New(rand.NewPCG(s.seed, 2)),
		net:      newSimnet(rand.New(rand.NewPCG(s.seed, 3)), s.weather),
		failures: make(chan string, 100), reached: make(map[[2]*simnode]reach), answers: make(map[string]answered),
		seen: make(map[*life]*lookout), cut: make(map[*simnode]*healthmesh.View), noted: make(map[*simnode]*noteBook),
	}
	sim.journal = &journal{began: sim.began, mu: new(sync.Mutex), lines: new([]func() string)}
	sim.log = slog.New(sim.journal)
	node := func(name, region string) {
		i := len(sim.nodes)
		n := &simnode{sim: sim, index: i, name: name, region: region, ip: fmt.Sprintf("10.0.0.%d", i+1), disk: new(memoryDisk)}
		sim.nodes = append(sim.nodes, n)
		sim.after(time.Duration(sim.rng.Int64N(int64(startTime))), n.start)
	}
	for i := range s.directors {
		node(directorName(i), "")
		sim.seeds = append(sim.seeds, sim.nodes[i].addr())
	}
	for i, agents := range s.regions {
		sim.regions = append(sim.regions, &simRegion{name: regionNames[i], capacity: 1})
		for a := range agents {
			node(fmt.Sprintf("%s-%d", regionNames[i], a), regionNames[i])
		}
	}
	for _, e := range s.events {
		do, undo := sim.effect(e)
		sim.at(e.at, e.String(), do)
		if e.lasts > 0 && undo != nil {
			sim.at(e.at+e.lasts, fmt.Sprintf("%8.3fs end of %s", (e.at+e.lasts).Seconds(), e), undo)
		}
	}
	return sim
}

func (s *simulation) since() time.Duration { return time.Since(s.began) }

func (s *simulation) at(d time.Duration, what string, do func()) {
	a := action{s.began.Add(d), what, do}
	i, _ := slices.BinarySearchFunc(s.actions, a, func(x, y action) int {
		if x.at.After(y.at) {
			return 1
		}
		return -1 // behind its equals
	})
	s.actions = slices.Insert(s.actions, i, a)
}

func (s *simulation) after(d time.Duration, do func()) { s.at(s.since()+d, "", do) }

// The times of checking.
const (
	step    = 250 * time.Millisecond
	healing = 10 * time.Second // from the end of the last fault until all agree
	staying = 3 * time.Second  // that they must go on to agree
)

// run plays the schedule to its end, or to the first violation.
func (s *simulation) run() {
	end := s.began.Add(s.end() + healing)
	for now := s.began; s.found == nil && now.Before(end.Add(staying)); now = time.Now() {
		next := now.Truncate(step).Add(step)
		if len(s.actions) > 0 && s.actions[0].at.Before(next) {
			next = s.actions[0].at
		}
		time.Sleep(time.Until(next))
		acted := false
		for len(s.actions) > 0 && !s.actions[0].at.After(next) {
			a := s.actions[0]
			s.actions = s.actions[1:]
			if a.what != "" {
				s.journal.note(a.what)
			}
			a.do()
			acted = true
		}
		if acted {
			s.reach()
		}
		synctest.Wait()
		s.check()
		if !next.Before(end) {
			s.agree()
		}
		select {
		case f := <-s.failures:
			s.violated("a process ends in its time", "%s", f)
		default:
		}
	}
}

// close ends all processes, and waits until no goroutine can be left but those that hang.
func (s *simulation) close() {
	for _, n := range slices.Concat(s.nodes, s.forgers) {
		n.resume()
		if n.life != nil && !n.life.leaves {
			n.end(n.life, context.Background())
		}
	}
	for _, l := range s.past {
		s.finish(l)
	}
	s.ending.Wait()
	time.Sleep(time.Minute) // memberlist's goroutines end with what they wait for
}

func (s *simulation) violated(rule, what string, args ...any) {
	if s.found == nil {
		s.found = &violation{seed: s.seed, at: s.since(), rule: rule, what: fmt.Sprintf(what, args...), log: s.journal.String()}
	}
}

// A journal keeps the last of what nodes logged, for a violation.
type journal struct {
	began time.Time
	from  string
	mu    *sync.Mutex
	lines *[]func() string
}

// journalLines are kept.
const journalLines = 100

func (j *journal) add(line func() string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(*j.lines) >= 2*journalLines {
		*j.lines = slices.Clone((*j.lines)[journalLines:])
	}
	*j.lines = append(*j.lines, line)
}

func (j *journal) note(text string) { j.add(func() string { return text }) }

func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	from, at := j.from, r.Time.Sub(j.began)
	j.add(func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "%8.3fs %s: %s", at.Seconds(), from, r.Message)
		r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %v", a); return true })
		return strings.Join(strings.Fields(b.String()), " ")
	})
	return nil
}

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	named := *j
	named.from = attrs[0].Value.String()
	return &named
}

func (j *journal) WithGroup(string) slog.Handler { return j }

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, line := range (*j.lines)[max(0, len(*j.lines)-journalLines):] {
		fmt.Fprintln(&b, line())
	}
	return b.String()
}
