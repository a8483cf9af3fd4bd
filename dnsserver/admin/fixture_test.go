package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = "$ORIGIN geo.example.com.\n@ 300 SOA ns1 hostmaster 1 3600 600 604800 30\n@ 300 NS ns1\nns1 300 A 192.0.2.1\n"

// world is the embedded database.
var world = sync.OnceValue(func() *geo.Table {
	return geo.Load(geo.Config{}, "", nil, nil, func(key string, value any, accepted string) { panic(fmt.Sprint(key, value, accepted)) })
})

// snapshot is of one checked service in two regions, of which the view says that eu-west is down.
func snapshot(t *testing.T) (*steer.Snapshot, *healthmesh.View) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "z"), []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	set := zones.Load(dir, []zones.RegionConfig{
		{Name: "us-east", Location: []float64{38.95, -77.45}, Capacity: 300},
		{Name: "eu-west", Location: []float64{53.35, -6.26}, Capacity: 200},
	}, []zones.ZoneConfig{{Name: "geo.example.com", File: "z", Services: []zones.ServiceConfig{{
		Name: "www", Checked: true, Regions: []zones.MemberConfig{
			{Region: "us-east", Addresses: []string{"192.0.2.10"}}, {Region: "eu-west", Addresses: []string{"192.0.2.20"}},
		},
	}}}}, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	if set == nil {
		t.FailNow()
	}
	up := map[healthmesh.EndpointID]healthmesh.Endpoint{
		healthmesh.ID("www.geo.example.com.", "us-east", "192.0.2.10"): {State: healthmesh.Up},
	}
	v := &healthmesh.View{Regions: map[string]*healthmesh.Region{
		"us-east": {State: healthmesh.Up, Cause: "heard", Endpoints: up},
		"eu-west": {State: healthmesh.Down, Cause: "silent for 5s"},
	}}
	return steer.Build(steer.Input{Generation: 7, Survey: steer.NewSurvey(set, world()), View: v}), v
}

// oneView is a mesh that believes one thing for ever and keeps the orders given to it.
type oneView struct {
	view   *healthmesh.View
	orders []healthmesh.Order
	err    error // of Give
}

func (m *oneView) View() *healthmesh.View { return m.view }
func (m *oneView) Give(_ context.Context, o healthmesh.Order) error {
	m.orders = append(m.orders, o)
	return m.err
}

func (m *oneView) Rotate(_ context.Context, change, key string) (healthmesh.Keyring, error) {
	if key == "bad" {
		return healthmesh.Keyring{}, errors.New("no such key")
	}
	return healthmesh.Keyring{Keys: []string{"0123456789abcdef"}, Behind: []string{}}, nil
}

func newServer(t *testing.T, token string) (*Server, *oneView) {
	t.Helper()
	s, v := snapshot(t)
	mesh := &oneView{view: v}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(Beliefs{Snapshot: func() *steer.Snapshot { return s }, View: mesh.View, Stats: func() healthmesh.Stats { return healthmesh.Stats{Forged: 4} }})
	srv, err := Listen(Options{
		Addr: "127.0.0.1:0", Node: "director-1", Token: func() string { return token }, Snapshot: func() *steer.Snapshot { return s }, Mesh: mesh,
		Metrics: metrics, Reload: func(context.Context) error { return fmt.Errorf("nearcast.yaml:1: no") }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return srv, mesh
}

// serve runs the server until the test ends and returns its address.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
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
