package dnsserver

import (
	"log/slog"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// mesh is one that believes one thing for ever.
type mesh struct{ view func() *healthmesh.View }

func (m mesh) View() *healthmesh.View { return m.view() }
func (mesh) Changed() <-chan struct{} { return nil }

// kept is a scene whose snapshot a keeper keeps, so that answers go on record.
func kept(s *Scene) *Scene {
	s.Snapshot = steer.NewKeeper(s.Snapshot.Survey, mesh{s.View}, slog.New(slog.DiscardHandler), nil).Snapshot()
	s.tick = s.Snapshot.Tick(time.Now())
	return s
}

// An answer puts its regions on record, whichever way it goes and in hints as well; what is no answer with a region does not.
func TestAnswersAreOnRecord(t *testing.T) {
	for query, want := range map[string]string{
		"www A":          "us",
		"www AAAA":       "us",
		"cdn A":          "us",
		"both A":         "eu us",
		"www ANY":        "us",
		"aliaswww A":     "us", // the slow way
		"dual HTTPS":     "us", // by a hint
		"both HTTPS":     "eu us",
		"four AAAA":      "", // it has no such address
		"ns1 A":          "",
		"gone A":         "",
		"www TXT":        "",
		"_explain.www A": "",
		"example.com. A": "",
	} {
		s := kept(build(t, services(), nil))
		Answer(nil, ask(t, query), resolver, UDP, s, nil)
		got := ""
		for _, region := range []string{"eu", "us"} {
			if !s.Snapshot.GoneAt(region, time.Time{}).IsZero() {
				if got != "" {
					got += " "
				}
				got += region
			}
		}
		if got != want {
			t.Errorf("%s: on record %q, want %q", query, got, want)
		}
	}
}

// A server's batches go on record.
func TestServersAnswersAreOnRecord(t *testing.T) {
	scene := kept(build(t, services(), nil))
	s := serve(t, serverOf(scene, "127.0.0.1:0"))
	before := time.Now()
	for _, network := range []string{"udp", "tcp"} {
		if _, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(question("www"), s.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
	}
	gone := scene.Snapshot.GoneAt("us", time.Time{})
	if last := gone.Add(-30 * time.Second); last.Before(before) || last.After(time.Now().Add(time.Second)) {
		t.Errorf("the last answer was at %v, asked at %v", last, before)
	}
}
