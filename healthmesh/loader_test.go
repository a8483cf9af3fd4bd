package healthmesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The average follows a step by the time that passed, however often it was read meanwhile.
func TestSmooth(t *testing.T) {
	const tau = 10 * time.Second
	for _, c := range []struct {
		name  string
		steps []time.Duration // between readings of 100, from an average of 0
		tau   time.Duration
		want  float64
	}{
		{"one time constant", []time.Duration{tau}, tau, 63.21},
		{"the same in tenths", []time.Duration{tau / 10, tau / 10, tau / 10, tau / 10, tau / 10, tau / 10, tau / 10, tau / 10, tau / 10, tau / 10}, tau, 63.21},
		{"the same, irregular", []time.Duration{time.Second, 7 * time.Second, time.Millisecond, 1999 * time.Millisecond}, tau, 63.21},
		{"three", []time.Duration{3 * tau}, tau, 95.02},
		{"after a long silence", []time.Duration{time.Hour}, tau, 100},
		{"no time passed", []time.Duration{0}, tau, 0},
		{"a clock that went back", []time.Duration{-time.Second}, tau, 0},
		{"off", []time.Duration{minInterval}, minSmooth, 100},
	} {
		average := 0.0
		for _, d := range c.steps {
			average = smooth(average, 100, d, c.tau)
		}
		if math.Abs(average-c.want) > 0.01 {
			t.Errorf("%s: %v, want %v", c.name, average, c.want)
		}
	}
}

// A meter is a source of load that a test sets; it is read in virtual time.
type meter struct {
	mu   sync.Mutex
	load float64
	err  error
}

func (m *meter) set(load float64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load, m.err = load, err
}

func (m *meter) read(context.Context) (float64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.load, m.err
}

// A load that is not read keeps its value and is stale, then none; it says so once each.
func TestLoadAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		log := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		ctx, stop := context.WithCancel(t.Context())
		m := &meter{err: errors.New("refused")}
		c := LoadConfig{Type: loadNginx, URL: "http://a/", Smooth: minSmooth, Interval: time.Second, MaxAge: 30 * time.Second}
		l := &loader{c: c, bound: 1000, log: log, readings: make(chan reading)}
		var running sync.WaitGroup
		running.Go(func() { l.run(ctx, m.read) })
		began, tick := time.Now(), time.NewTicker(minInterval)
		defer tick.Stop()
		changes := 0
		// until takes part in the load's life until a time after the beginning, and says what a status has then.
		until := func(end time.Duration) string {
			for over := time.After(end - time.Since(began)); ; {
				select {
				case r := <-l.readings:
					if l.take(r) {
						changes++
						l.fill(&Status{})
					}
				case now := <-tick.C:
					if l.age(now) {
						changes++
					}
				case <-over:
					var s Status
					l.fill(&s)
					age := ""
					if s.HasLoad {
						age = time.Since(s.LoadRead).Truncate(time.Second).String()
					}
					return fmt.Sprintf("%v %v %v %s", s.HasLoad, s.LoadStale, math.Round(s.Load), age)
				}
			}
		}
		for _, step := range []struct {
			at   time.Duration // in seconds and a half, so that no reading is at the same instant
			want string
			load float64
			err  error
		}{
			{1, "false false 0 ", 50, nil},
			{3, "true false 50 0s", 0, errors.New("refused")},
			{6, "true true 50 3s", 0, errors.New("timeout")}, // 3 s after the last good reading, at 2 s
			{20, "true true 50 17s", 70, nil},
			{22, "true false 70 0s", 0, errors.New("refused")},
			{50, "true true 70 28s", 0, errors.New("refused")},
			{53, "false false 0 ", 80, nil},
			{55, "true false 80 0s", 1e9, nil},
			{57, "true false 1000 0s", 20, nil},
			{59, "true false 20 0s", 0, nil},
		} {
			if got := until(step.at*time.Second + 500*time.Millisecond); got != step.want {
				t.Errorf("at %v s: %q, want %q", int(step.at), got, step.want)
			}
			m.set(step.load, step.err)
		}
		stop()
		running.Wait()
		var got []string
		for line := range strings.Lines(lines.String()) {
			var short []string
			for _, f := range strings.Fields(line) {
				for _, key := range []string{"before=", "after=", "cause=", "age="} {
					if rest, ok := strings.CutPrefix(f, key); ok {
						short = append(short, rest)
					}
				}
			}
			got = append(got, strings.Join(short, " "))
		}
		want := []string{
			"unread neutral refused", "neutral fresh read 0s", "fresh stale refused 3s", "stale fresh read 0s",
			"fresh stale refused 3s", "stale neutral refused 30s", "neutral fresh read 0s", "false true", "true false",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("log:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if changes != 8 { // fresh, stale, fresh, stale, neutral, fresh, bounded, 20
			t.Errorf("%d changes to publish, want 8", changes)
		}
	})
}

// A reload that leaves the source as it was keeps the load.
func TestReloadKeepsLoad(t *testing.T) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := slog.New(slog.DiscardHandler)
	source := LoadConfig{Type: loadMemory}.withDefaults()
	l := (&loader{}).next(ctx, &running, AgentOptions{Load: source, Capacity: 100, Log: log})
	l.take(reading{load: 40, at: time.Now()})
	if same := l.next(ctx, &running, AgentOptions{Load: source, Capacity: 100, Log: log}); same != l {
		t.Error("a reload that changes nothing begins anew")
	}
	for _, c := range []struct {
		o    AgentOptions
		want bool
	}{
		{AgentOptions{Load: source, Capacity: 200, Log: log}, true},
		{AgentOptions{Load: LoadConfig{Type: loadCPU}.withDefaults(), Capacity: 200, Log: log}, false},
		{AgentOptions{Capacity: 200, Log: log}, false},
	} {
		l = l.next(ctx, &running, c.o)
		var s Status
		if l.fill(&s); s.HasLoad != c.want {
			t.Errorf("%+v: load %v, want %v", c.o, s.HasLoad, c.want)
		}
	}
}
