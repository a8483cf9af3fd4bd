package steer

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"

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
	watch    func(Change) // called by Run for each change, in order; may be nil
}

// NewKeeper builds the first snapshot, so that there is an answer to the first query.
func NewKeeper(s *Survey, m Mesh, log *slog.Logger, watch func(Change)) *Keeper {
	k := &Keeper{mesh: m, reloads: make(chan reload), log: log, watch: watch}
	k.snapshot.Store(Build(Input{Generation: 1, Survey: s, View: m.View()}))
	return k
}

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
		}
	}
}

// rebuild swaps in a snapshot of the newest view, if it answers any query otherwise.
func (k *Keeper) rebuild(s *Survey, cause string) {
	before, v := k.Snapshot(), k.mesh.View()
	after := Build(Input{Generation: before.Generation + 1, Survey: s, View: v, Previous: before})
	if after.SameAnswers(before) {
		return
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
