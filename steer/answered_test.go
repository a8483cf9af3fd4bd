package steer_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/steer"
)

// keeper keeps snapshots of a survey whose regions are all up, until the test ends.
func keeper(t *testing.T, s *steer.Survey) *steer.Keeper {
	mesh := &news{changed: make(chan struct{}, 1)}
	mesh.view.Store(view(t, s.Set, "us-east up, eu-west up, ap-south up"))
	k := steer.NewKeeper(s, mesh, slog.New(slog.DiscardHandler), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return k
}

func answerAt(s *steer.Snapshot, qtype uint16, at time.Time) {
	svc := s.Set.Services[0]
	p := s.Pick(svc, qtype, client(amsterdam))
	s.Answered(svc, &p, s.Tick(at))
}

// Old answers are gone the TTL after the last, here or elsewhere; of two TTLs, before and after a reload, the one that ends later.
func TestGoneAt(t *testing.T) {
	with := func(ttl int, region string) *steer.Survey {
		s := service("nearest", "us-east", region)
		s.TTL = ttl
		return steer.NewSurvey(load(t, s), world())
	}
	long, short, other := with(300, "eu-west"), with(30, "eu-west"), with(30, "ap-south")
	synctest.Test(t, func(t *testing.T) {
		k, start := keeper(t, long), time.Now()
		expect := func(region string, others time.Duration, want string) {
			t.Helper()
			var elsewhere time.Time
			if others > 0 {
				elsewhere = start.Add(others)
			}
			got := "never"
			if gone := k.Snapshot().GoneAt(region, elsewhere); !gone.IsZero() {
				got = gone.Sub(start).Round(time.Second).String()
			}
			if got != want {
				t.Errorf("%s: gone %s, want %s", region, got, want)
			}
		}
		reload := func(s *steer.Survey) {
			if err := k.Reload(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		expect("eu-west", 0, "never")
		expect("eu-west", 7*time.Second, "5m7s")
		time.Sleep(10 * time.Second)
		answerAt(k.Snapshot(), dns.TypeA, time.Now())
		expect("eu-west", 0, "5m10s")
		expect("eu-west", 7*time.Second, "5m10s")
		expect("us-east", 0, "never")
		expect("ap-south", 0, "never")
		time.Sleep(10 * time.Second)
		answerAt(k.Snapshot(), dns.TypeAAAA, time.Now())
		expect("eu-west", 0, "5m20s")
		old := k.Snapshot()
		reload(short)
		expect("eu-west", 0, "5m20s")
		answerAt(old, dns.TypeA, time.Now().Add(time.Second)) // a batch from before the reload
		time.Sleep(10 * time.Second)
		answerAt(k.Snapshot(), dns.TypeA, time.Now())
		expect("eu-west", 0, "5m20s")
		time.Sleep(5 * time.Minute)
		answerAt(k.Snapshot(), dns.TypeA, time.Now())
		expect("eu-west", 0, "6m0s")
		reload(other)
		expect("eu-west", time.Hour, "never")
	})
}

// Without a keeper nothing is put on record.
func TestNoHistoryWithoutKeeper(t *testing.T) {
	s := build(t, load(t, service("nearest", "us-east", "eu-west")), "us-east up, eu-west up")
	answerAt(s, dns.TypeA, time.Now())
	if gone := s.GoneAt("eu-west", time.Time{}); !gone.IsZero() {
		t.Errorf("gone at %v", gone)
	}
}

// Workers that answer at once, of batches of different times and over reloads, leave the latest on record.
func TestAnsweredByManyAtOnce(t *testing.T) {
	survey := func() *steer.Survey {
		return steer.NewSurvey(load(t, service("weighted", "us-east", "eu-west", "ap-south")), world())
	}
	k := keeper(t, survey())
	const workers, batches = 8, 400
	start := time.Now()
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := range batches {
				s := k.Snapshot()
				svc := s.Set.Services[0]
				tick := s.Tick(start.Add(time.Duration(i*10+w) * time.Millisecond))
				for n := range 8 {
					p := s.Pick(svc, dns.TypeA, client(fmt.Sprintf("193.0.%d.1", n+8*w)))
					s.Answered(svc, &p, tick)
				}
			}
		})
	}
	for range 3 {
		if err := k.Reload(t.Context(), survey()); err != nil {
			t.Fatal(err)
		}
	}
	working.Wait()
	for _, region := range []string{"us-east", "eu-west", "ap-south"} {
		last := k.Snapshot().GoneAt(region, time.Time{}).Add(-30 * time.Second).Sub(start)
		first, end := time.Duration((batches-1)*10)*time.Millisecond, time.Duration(batches*10+20)*time.Millisecond
		if last < first || last > end {
			t.Errorf("%s: last answer after %v, want %v to %v", region, last, first, end)
		}
	}
}

func TestAnsweredDoesNotAllocate(t *testing.T) {
	k := keeper(t, steer.NewSurvey(load(t, service("nearest", "us-east", "eu-west")), world()))
	s := k.Snapshot()
	svc := s.Set.Services[0]
	p := s.Pick(svc, dns.TypeA, client(amsterdam))
	at := time.Now()
	if n := testing.AllocsPerRun(100, func() { at = at.Add(time.Second); s.Answered(svc, &p, s.Tick(at)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
