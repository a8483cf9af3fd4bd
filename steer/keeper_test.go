package steer_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// news is a mesh whose views a test makes.
type news struct {
	view    atomic.Pointer[healthmesh.View]
	changed chan struct{}
}

func (n *news) View() *healthmesh.View   { return n.view.Load() }
func (n *news) Changed() <-chan struct{} { return n.changed }

func (n *news) tell(v *healthmesh.View) {
	n.view.Store(v)
	n.changed <- struct{}{}
}

// A keeper's first snapshot holds before Run; each view and each reload is in use once it was taken in, with a larger
// generation only if an answer changed, and the watcher is told of each change in order.
func TestKeeper(t *testing.T) {
	set := load(t, service("nearest", "us-east", "eu-west"))
	other := load(t, service("nearest", "us-east", "eu-west", "ap-south"))
	surveys := []*steer.Survey{steer.NewSurvey(set, world()), steer.NewSurvey(other, world())}
	const both, east = "us-east up, eu-west up", "us-east up, eu-west down"
	synctest.Test(t, func(t *testing.T) {
		mesh := &news{changed: make(chan struct{}, 1)}
		mesh.view.Store(view(t, set, both))
		var told []string
		k := steer.NewKeeper(surveys[0], mesh, slog.New(slog.DiscardHandler), func(c steer.Change) { told = append(told, c.String()) })
		expect := func(generation uint64, want string) {
			t.Helper()
			synctest.Wait()
			s := k.Snapshot()
			if got := answer(s, dns.TypeA, client(amsterdam)); s.Generation != generation || got != want {
				t.Fatalf("generation %d answers %s, want %d and %s", s.Generation, got, generation, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		expect(1, "eu-west 192.0.2.11")
		go k.Run(ctx)
		mesh.tell(view(t, set, both))
		expect(1, "eu-west 192.0.2.11")
		mesh.tell(view(t, set, east))
		expect(2, "us-east 192.0.2.1")
		mesh.tell(view(t, set, both))
		expect(3, "eu-west 192.0.2.11")
		if err := k.Reload(ctx, surveys[1]); err != nil {
			t.Fatal(err)
		}
		expect(4, "eu-west 192.0.2.11")
		cancel()
		synctest.Wait()
		if err := k.Reload(ctx, surveys[0]); err != context.Canceled {
			t.Errorf("a keeper that has ended takes a reload: %v", err)
		}
		want := "eu-west down (was up) for www.geo.example.com.: silent for 5s; eu-west up (was down) for www.geo.example.com.: heard"
		if got := strings.Join(told, "; "); got != want {
			t.Errorf("told:\n %s\nwant\n %s", got, want)
		}
	})
}
