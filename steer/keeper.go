package steer

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

// Mesh is what a keeper needs of the mesh: the newest view, and word that there is one.
type Mesh interface {
	View() *healthmesh.View
	Changed() <-chan struct{}
}

// A Keeper keeps the snapshot that queries read. The goroutine of Run is the only
// writer after NewKeeper; any number may read.
type Keeper struct {
	snapshot atomic.Pointer[Snapshot] // swapped whole
	mesh     Mesh                     // immutable after NewKeeper
	reloads  chan reload              // from Reload to Run
	log      *slog.Logger
	watch    func(Change)     // called by Run for each change, in order; may be nil
	departed func(*Departure) // called by Run; may be nil
	view     *healthmesh.View // that the snapshot's answers are of; owned by Run
	lag      *stopwatch       // owned by Run
}

// NewKeeper builds the first snapshot, so that there is an answer to the first query.
func NewKeeper(s *Survey, m Mesh, log *slog.Logger, watch func(Change)) *Keeper {
	k := &Keeper{mesh: m, reloads: make(chan reload), log: log, watch: watch, view: m.View()}
	k.lag = newStopwatch(k.tellDeparture)
	first := Build(Input{Generation: 1, Survey: s, View: k.view})
	first.history = newHistory(s.Set, time.Now())
	k.snapshot.Store(first)
	return k
}

// OnDeparture has Run call f for each region that evidence took out of answers, once it is known when the last answer with it was. It
// must be called before Run.
func (k *Keeper) OnDeparture(f func(*Departure)) { k.departed = f }

// Snapshot returns the snapshot in use. Never nil.
func (k *Keeper) Snapshot() *Snapshot { return k.snapshot.Load() }

type reload struct {
	survey *Survey
	done   chan struct{}
}

// Reload makes Run use other zones or geography; it returns when they are in use or ctx ends.
func (k *Keeper) Reload(ctx context.Context, s *Survey) error {
	r := reload{s, make(chan struct{})}
	select {
	case k.reloads <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run rebuilds the snapshot on every change of the view, the zones or the geography, until
// ctx ends. The mesh has coalesced views already, except those that take something away.
func (k *Keeper) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-k.reloads:
			k.rebuild(r.survey, "reload")
			close(r.done)
		case <-k.mesh.Changed():
			k.rebuild(k.Snapshot().Survey, "mesh")
		case <-k.lag.timer.C:
			k.lag.due(k.Snapshot(), time.Now())
		}
	}
}

// rebuild swaps in a snapshot of the newest view, if it answers any query otherwise.
func (k *Keeper) rebuild(s *Survey, cause string) {
	before, was, v := k.Snapshot(), k.view, k.mesh.View()
	k.view = v
	after := Build(Input{Generation: before.Generation + 1, Survey: s, View: v, Previous: before})
	if after.SameAnswers(before) {
		return
	}
	k.lag.swap(before, after, was, v, time.Now())
	if after.history = before.history; s != before.Survey {
		after.history = before.history.carry(s.Set)
	}
	k.snapshot.Store(after)
	changes := Changes(before, after, v)
	level := slog.LevelInfo
	switch {
	case slices.ContainsFunc(changes, Change.alarms):
		level = slog.LevelWarn
	case len(changes) == 0 && s == before.Survey && after.Stale == before.Stale:
		level = slog.LevelDebug // shares move with capacity, and while a drain goes on
	}
	k.log.Log(context.Background(), level, "new snapshot", "generation", after.Generation, "cause", cause, "stale", after.Stale, "changes", changes)
	if k.watch != nil {
		for c := range slices.Values(changes) {
			k.watch(c)
		}
	}
}

func (k *Keeper) tellDeparture(d *Departure) {
	k.log.Info("last wrong answer", "region", d.Region, "after", d.Lag, "fault", d.Cause, "services", d.Services)
	if k.departed != nil {
		k.departed(d)
	}
}
