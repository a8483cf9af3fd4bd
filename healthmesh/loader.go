package healthmesh

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"time"
)

// loadStep is the relative change of load that is published: a smaller one adds up until it is more.
const loadStep = 0.01

// A loadState is what is known of a region's load:
//
//	                      a reading    a failed reading    staleAfter without    max_age without
//	unread                fresh        neutral             -                     -
//	fresh                 fresh        -                   stale                 neutral
//	stale                 fresh        -                   -                     neutral
//	neutral (none known)  fresh        -                   -                     -
//
// Each change of it is a line in the log.
type loadState uint8

const (
	loadUnread loadState = iota
	loadFresh
	loadStale
	loadNeutral
)

func (s loadState) String() string { return [...]string{"unread", "fresh", "stale", "neutral"}[s] }

// A loader keeps a region's load: it reads, smooths, bounds and ages it. The zero loader has no source. The agent's goroutine owns
// it; run alone runs beside, and ends with stop or its context.
type loader struct {
	c        LoadConfig // with its defaults filled in
	capacity float64    // configured
	bound    float64    // of what is believed, in the unit of capacity; 0: none
	log      *slog.Logger
	readings chan reading // from run
	stop     context.CancelFunc

	state   loadState
	value   float64   // smoothed
	at      time.Time // of the last good reading
	err     error     // of the last reading, nil if it was good
	bounded bool      // the last good reading was beyond the bound
	told    float64   // the value that was published last
}

// A reading is one outcome of reading the load.
type reading struct {
	load float64
	at   time.Time
	err  error
}

// next gives the loader for o: l itself if o changes nothing of it, else a new one, which keeps the load if its source stays.
func (l *loader) next(ctx context.Context, running *sync.WaitGroup, o AgentOptions) *loader {
	bound := maxOverload * max(o.Capacity, o.MaxCapacity)
	sameSource := reflect.DeepEqual(o.Load, l.c)
	if sameSource && o.Capacity == l.capacity && bound == l.bound {
		l.log = o.Log
		return l
	}
	if l.stop != nil {
		l.stop()
	}
	n := &loader{c: o.Load, capacity: o.Capacity, bound: bound, log: o.Log, readings: make(chan reading)}
	if sameSource {
		n.state, n.value, n.at, n.err = l.state, l.value, l.at, l.err
	}
	if n.c.Type != "" {
		ctx, n.stop = context.WithCancel(ctx)
		running.Go(func() {
			g, close := newGauge(n.c, n.capacity)
			defer close()
			n.run(ctx, g)
		})
	}
	return n
}

// run reads again and again until ctx ends. It touches nothing of l but what does not change.
func (l *loader) run(ctx context.Context, g gauge) {
	tick := time.NewTicker(l.c.Interval)
	defer tick.Stop()
	for {
		load, err := g(ctx)
		select {
		case l.readings <- reading{load, time.Now(), err}:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take takes in a reading, and tells if it changes what is to be published.
func (l *loader) take(r reading) (changed bool) {
	if l.err = r.err; r.err != nil {
		if l.state == loadUnread {
			l.become(loadNeutral, r.err)
		}
		return false
	}
	load := r.load
	if l.bound > 0 {
		load = min(load, l.bound)
	}
	if beyond := load < r.load; beyond != l.bounded {
		l.log.Warn("load is beyond its bound", "before", l.bounded, "after", beyond, "read", r.load, "bound", l.bound)
		l.bounded = beyond
	}
	known := l.known()
	if known {
		load = smooth(l.value, load, r.at.Sub(l.at), l.c.Smooth)
	}
	was := l.state
	l.value, l.at = load, r.at
	if was != loadFresh {
		l.become(loadFresh, errors.New("read"))
	}
	return was != loadFresh || math.Abs(l.value-l.told) > loadStep*l.told
}

// smooth moves an exponentially weighted average towards a value that was read after a time. The weight of what was before falls
// with the time and not with the number of readings, so that late ones count for the time that they stand for.
func smooth(average, read float64, after, constant time.Duration) float64 {
	return average + (read-average)*-math.Expm1(-max(after, 0).Seconds()/constant.Seconds())
}

// age makes a load that was not read for long stale, and then none; it tells if that changed something.
func (l *loader) age(now time.Time) (changed bool) {
	age := now.Sub(l.at)
	switch {
	case !l.known():
		return false
	case age >= l.c.MaxAge:
		l.become(loadNeutral, l.err)
		l.value = 0
	case l.state == loadFresh && age >= l.c.staleAfter():
		l.become(loadStale, l.err)
	default:
		return false
	}
	return true
}

// known tells if there is a load to report.
func (l *loader) known() bool { return l.state == loadFresh || l.state == loadStale }

func (l *loader) become(s loadState, cause error) {
	level := slog.LevelWarn
	if s == loadFresh {
		level = slog.LevelInfo
	}
	if cause == nil {
		cause = errors.New("no reading ended")
	}
	attrs := []any{"before", l.state.String(), "after", s.String(), "cause", cause.Error(), "type", l.c.Type, "url", l.c.URL, "load", l.value}
	if !l.at.IsZero() {
		attrs = append(attrs, "age", time.Since(l.at).Round(time.Millisecond).String())
	}
	l.log.Log(context.Background(), level, "load", attrs...)
	l.state = s
}

// fill puts the load into a status that is about to be published.
func (l *loader) fill(s *Status) {
	l.told = l.value
	if l.known() {
		s.Load, s.HasLoad, s.LoadStale, s.LoadRead = l.value, true, l.state == loadStale, l.at
	}
}
