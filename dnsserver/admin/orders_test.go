package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

func post(t *testing.T, at, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(at+"/api/v1/orders", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// What the API makes of a request is the order that it is meant to be; the answer says when it ends and when the region is gone.
func TestOrders(t *testing.T) {
	const ttl = 30 * time.Second // of the service
	s, mesh := newServer(t, "")
	believe(s, mesh, healthmesh.Region{State: healthmesh.Up, Endpoints: map[healthmesh.EndpointID]healthmesh.Endpoint{
		healthmesh.ID("www.geo.example.com.", "eu-west", "192.0.2.20"): {State: healthmesh.Up},
	}})
	at := serve(t, s)
	for body, c := range map[string]struct {
		want        healthmesh.Order
		until, gone time.Duration // from now; -1 for none
	}{
		`{"region":"us-east","kind":"drain","for":"2h","over":"5m","owner":"ann@host","reason":"kernel","force":true}`: {
			healthmesh.Order{Region: "us-east", Kind: healthmesh.Drain, Over: 5 * time.Minute, For: 2 * time.Hour, Owner: "ann@host", Reason: "kernel"},
			2 * time.Hour, 5*time.Minute + spreadTime + ttl,
		},
		`{"region":"us-east","kind":"pin-down","force":true}`:       {healthmesh.Order{Region: "us-east", Kind: healthmesh.PinDown}, -1, spreadTime + ttl},
		`{"region":"us-east","kind":"pin-up"}`:                      {healthmesh.Order{Region: "us-east", Kind: healthmesh.PinUp}, -1, -1},
		`{"region":"us-east","kind":"none"}`:                        {healthmesh.Order{Region: "us-east", Kind: healthmesh.None}, -1, -1},
		`{"region":"eu-west","kind":"shed","share":0.3,"for":"1m"}`: {healthmesh.Order{Region: "eu-west", Kind: healthmesh.Shed, Share: 0.3, For: time.Minute}, time.Minute, -1},
		`{"region":"eu-west","kind":"shed"}`:                        {healthmesh.Order{Region: "eu-west", Kind: healthmesh.Shed}, -1, -1},
		`{"kind":"freeze"}`:                                         {healthmesh.Order{Kind: healthmesh.Freeze}, -1, -1},
		`{"kind":"none"}`:                                           {healthmesh.Order{Kind: healthmesh.None}, -1, -1},
	} {
		mesh.orders = nil
		now := time.Now()
		code, answer := post(t, at, body)
		if code != 200 || len(mesh.orders) != 1 {
			t.Errorf("%s: %d %s; orders %v", body, code, answer, mesh.orders)
			continue
		}
		got := mesh.orders[0]
		if c.want.Owner == "" {
			c.want.Owner = "127.0.0.1" // the client
		}
		c.want.By, c.want.At, c.want.Given = "director-1", got.At, got.Given
		if got != c.want {
			t.Errorf("%s: %+v", body, got)
		}
		var told Order
		if err := json.Unmarshal([]byte(answer), &told); err != nil {
			t.Fatal(err)
		}
		for name, x := range map[string]struct {
			got  *time.Time
			want time.Duration
		}{"until": {told.Until, c.until}, "gone_at": {told.GoneAt, c.gone}} {
			if (x.got == nil) != (x.want < 0) || x.got != nil && (x.got.Sub(now) < x.want || x.got.Sub(now) > x.want+time.Minute) {
				t.Errorf("%s: %s %v, want %v after %v", body, name, x.got, x.want, now)
			}
		}
	}
}

// believe makes the server and its mesh believe otherwise of eu-west.
func believe(s *Server, mesh *oneView, eu healthmesh.Region) {
	mesh.view = &healthmesh.View{Regions: map[string]*healthmesh.Region{"us-east": mesh.view.Regions["us-east"], "eu-west": &eu}}
	built := steer.Build(steer.Input{Survey: s.o.Snapshot().Survey, View: mesh.view})
	s.o.Snapshot = func() *steer.Snapshot { return built }
}

// What the other regions cannot carry is refused unless forced; what would leave too few of them is refused even so.
func TestOrdersThatOthersCannotBear(t *testing.T) {
	s, mesh := newServer(t, "")
	at := serve(t, s)
	for _, body := range []string{
		`{"region":"us-east","kind":"drain"}`, `{"region":"us-east","kind":"pin-down"}`, `{"region":"us-east","kind":"shed","share":0.1}`,
	} {
		if code, answer := post(t, at, body); code != 409 || !strings.Contains(answer, "no other region is up, for www.geo.example.com.") || len(mesh.orders) > 0 {
			t.Errorf("%s: %d %s; orders %v", body, code, answer, mesh.orders)
		}
	}
	if code, answer := post(t, at, `{"region":"us-east","kind":"drain","force":true}`); code != 200 || len(mesh.orders) != 1 {
		t.Errorf("forced: %d %s; orders %v", code, answer, mesh.orders)
	}
	s, mesh = newServer(t, "")
	believe(s, mesh, healthmesh.Region{State: healthmesh.Up, Order: &healthmesh.Order{Kind: healthmesh.PinDown}})
	at = serve(t, s)
	if code, answer := post(t, at, `{"region":"us-east","kind":"drain","force":true}`); code != 409 || !strings.Contains(answer, "www.geo.example.com. would keep 0 of at least 1") {
		t.Errorf("the last region: %d %s; orders %v", code, answer, mesh.orders)
	}
}

// Of an order that could not be saved the answer does not say that it is not in force.
func TestOrdersThatFail(t *testing.T) {
	s, mesh := newServer(t, "")
	at := serve(t, s)
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: disk full", healthmesh.ErrUnsaved), `"the order is in force, but not on this node's disk: disk full"`},
		{errors.New("too late"), `"the order is not in force: too late"`},
	} {
		mesh.err = c.err
		if code, answer := post(t, at, `{"kind":"freeze"}`); code != 500 || !strings.Contains(answer, c.want) {
			t.Errorf("%v: %d %s", c.err, code, answer)
		}
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	s, mesh := newServer(t, "")
	at := serve(t, s)
	for body, want := range map[string]string{
		`{"region":"mars","kind":"drain"}`:                                                    `region: \"mars\" is not one of us-east, eu-west`,
		`{"region":"us-east","kind":"freeze"}`:                                                `region: \"us-east\", none is accepted of a freeze`,
		`{"kind":"drain"}`:                                                                    `region: \"\" is not one of us-east, eu-west`,
		`{"region":"us-east","kind":"explode"}`:                                               `order of kind \"explode\"`,
		`{"region":"us-east","kind":"drain","for":"-2h"}`:                                     `for: \"-2h\" is not a duration above 0`,
		`{"region":"us-east","kind":"drain","over":"soon"}`:                                   `over: \"soon\" is not a duration above 0`,
		`{"region":"us-east","kind":"drain","over":"25h"}`:                                    `over 25h0m0s`,
		`{"region":"us-east","kind":"shed","share":2}`:                                        `with share 2`,
		`{"region":"us-east","kind":"drain","fro":"2h"}`:                                      `unknown field`,
		`{"region":"us-east","kind":"drain","reason":"` + strings.Repeat("x", 257) + `"}`:     `at most 256 bytes`,
		`{"region":"us-east","kind":"drain","reason":"` + strings.Repeat("x", maxBody) + `"}`: `too large`,
	} {
		if code, answer := post(t, at, body); code != 400 || !strings.Contains(answer, want) {
			t.Errorf("%.60s: %d %s, want %s", body, code, answer, want)
		}
	}
	if len(mesh.orders) > 0 {
		t.Fatalf("refused orders were given: %v", mesh.orders)
	}
}

// Answers that this director gives after all others had the order count as well: it may be the last region, say.
func TestGoneAtCountsOwnAnswers(t *testing.T) {
	s, v := snapshot(t)
	s = steer.NewKeeper(s.Survey, still{v}, slog.New(slog.DiscardHandler), nil).Snapshot()
	given := time.Now()
	o := &healthmesh.Order{Region: "us-east", Kind: healthmesh.Drain, Over: time.Minute, Given: given}
	expect := func(want time.Duration) {
		t.Helper()
		if got := goneAt(o, s, given).Sub(given).Round(time.Second); got != want {
			t.Errorf("gone after %v, want %v", got, want)
		}
	}
	const ttl = 30 * time.Second // of the service
	svc := s.Set.Services[0]
	p := s.Pick(svc, dns.TypeA, geo.NewClient(netip.MustParseAddr("192.0.2.1"), 32))
	expect(time.Minute + spreadTime + ttl)
	s.Answered(svc, &p, s.Tick(given.Add(30*time.Second)))
	expect(time.Minute + spreadTime + ttl)
	s.Answered(svc, &p, s.Tick(given.Add(5*time.Minute)))
	expect(5*time.Minute + ttl)
	down := &healthmesh.View{Regions: map[string]*healthmesh.Region{"us-east": {State: healthmesh.Down}}}
	r := makeStatus("director-1", s, down, given).Regions[0]
	if r.OldAnswersUntil == nil || r.OldAnswersUntil.Sub(given).Round(time.Second) != 5*time.Minute+ttl {
		t.Errorf("old answers of a region that is down: until %v, given %v", r.OldAnswersUntil, given)
	}
}

// still is a mesh that believes one thing for ever.
type still struct{ view *healthmesh.View }

func (m still) View() *healthmesh.View { return m.view }
func (still) Changed() <-chan struct{} { return nil }

// A region that is drained and stands in, since no other can answer, is in the answers of all directors.
func TestGoneAtWhileTheRegionStandsIn(t *testing.T) {
	const ttl = 30 * time.Second // of the service
	s, mesh := newServer(t, "")
	given := time.Now()
	o := &healthmesh.Order{Region: "us-east", Kind: healthmesh.Drain, Given: given}
	mesh.view = &healthmesh.View{Regions: map[string]*healthmesh.Region{"us-east": {State: healthmesh.Up, Order: o, Drained: 1}}}
	for _, c := range []struct {
		other healthmesh.State
		want  time.Duration // after an hour
	}{
		{healthmesh.Up, spreadTime + ttl},
		{healthmesh.Down, time.Hour + ttl},
	} {
		believe(s, mesh, healthmesh.Region{State: c.other, Endpoints: map[healthmesh.EndpointID]healthmesh.Endpoint{
			healthmesh.ID("www.geo.example.com.", "eu-west", "192.0.2.20"): {State: c.other},
		}})
		if got := goneAt(o, s.o.Snapshot(), given.Add(time.Hour)).Sub(given); got != c.want {
			t.Errorf("the other region is %v: gone after %v, want %v", c.other, got, c.want)
		}
	}
}
