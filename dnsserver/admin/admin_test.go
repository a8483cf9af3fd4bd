package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

func TestEndpoints(t *testing.T) {
	s, _ := newServer(t, "")
	at := serve(t, s)
	for _, c := range []struct {
		path string
		code int
		want []string
	}{
		{"/healthz", 200, []string{"ok"}},
		{"/readyz", 200, []string{"ready"}},
		{"/metrics", 200, []string{"nearcast_snapshot_generation 7"}},
		{"/api/v1/status", 200, []string{`"node": "director-1"`, `"eu-west"`, `"silent for 5s"`, `"embedded"`}},
		{"/api/v1/explain?name=www.geo.example.com&client=193.0.6.139", 200, []string{`"region": "us-east"`, `"192.0.2.10"`, `"silent for 5s"`}},
		{"/api/v1/explain?name=www.geo.example.com&client=nobody", 400, []string{`client: \"nobody\" is neither an address nor a network`}},
		{"/api/v1/explain?name=www.geo.example.com&client=193.0.6.139&type=BOGUS", 400, []string{`type: \"BOGUS\" is not a record type`}},
		{"/api/v1/explain?name=www.example.org&client=193.0.6.139", 404, []string{"www.example.org"}},
		{"/nothing", 404, nil},
	} {
		code, body := get(t, at+c.path)
		if code != c.code {
			t.Errorf("%s: %d, want %d: %s", c.path, code, c.code, body)
		}
		for _, w := range c.want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: no %s in %s", c.path, w, body)
			}
		}
	}
}

// An explanation has the fields that its readers rely on.
func TestExplanationFields(t *testing.T) {
	s, _ := newServer(t, "")
	_, body := get(t, serve(t, s)+"/api/v1/explain?name=www.geo.example.com&client=193.0.6.139")
	var e map[string]any
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"name", "type", "client", "network", "scope", "generation", "region", "answers", "candidates"} {
		if _, ok := e[f]; !ok {
			t.Errorf("no %s in %s", f, body)
		}
	}
	candidates, _ := e["candidates"].([]any)
	if len(candidates) != 2 {
		t.Fatalf("candidates: %v", e["candidates"])
	}
	for _, f := range []string{"region", "distance_km", "state", "share", "reason"} {
		if _, ok := candidates[0].(map[string]any)[f]; !ok {
			t.Errorf("no %s in %v", f, candidates[0])
		}
	}
}

// Orders come from loopback or with the token; all else is refused and changes nothing.
func TestWhoMayOrder(t *testing.T) {
	const order = `{"region":"eu-west","kind":"drain","for":"2h","reason":"kernel"}`
	for name, c := range map[string]struct {
		token, from, bearer, origin string
		code                        int
		host, kind                  string // localhost and application/json if ""
	}{
		"loopback":                      {"", "127.0.0.1:1234", "", "", 200, "", ""},
		"loopback, IPv6":                {"", "[::1]:1234", "", "", 200, "", ""},
		"loopback, IPv4-mapped":         {"", "[::ffff:127.0.0.1]:1234", "", "", 200, "", ""},
		"elsewhere":                     {"", "192.0.2.1:1234", "", "", 403, "", ""},
		"elsewhere, no token set":       {"", "192.0.2.1:1234", "guess", "", 403, "", ""},
		"elsewhere, empty token":        {"", "192.0.2.1:1234", " ", "", 403, "", ""},
		"elsewhere, wrong token":        {"secret", "192.0.2.1:1234", "guess", "", 403, "", ""},
		"elsewhere, no token":           {"secret", "192.0.2.1:1234", "", "", 403, "", ""},
		"elsewhere, token":              {"secret", "192.0.2.1:1234", "secret", "", 200, "", ""},
		"a page in a browser on a host": {"", "127.0.0.1:1234", "", "https://evil.example", 403, "", ""},
		"by address":                    {"", "127.0.0.1:1234", "", "", 200, "127.0.0.1:8053", ""},
		"by address, IPv6":              {"", "[::1]:1234", "", "", 200, "[::1]:8053", ""},
		"by address, no port":           {"", "[::1]:1234", "", "", 200, "[::1]", ""},
		"localhost with a port":         {"", "127.0.0.1:1234", "", "", 200, "LocalHost:8053", "application/json; charset=utf-8"},
		"a name that leads to loopback": {"", "127.0.0.1:1234", "", "", 403, "evil.example:8053", ""},
		"no name":                       {"", "127.0.0.1:1234", "", "", 403, ":8053", ""},
		"such a name, token":            {"secret", "127.0.0.1:1234", "secret", "", 200, "director.example", ""},
		"such a name, wrong token":      {"secret", "127.0.0.1:1234", "guess", "", 403, "director.example", ""},
		"a form":                        {"", "127.0.0.1:1234", "", "", 415, "", "text/plain"},
		"a form with a token":           {"secret", "192.0.2.1:1234", "secret", "", 200, "", "text/plain"},
	} {
		s, mesh := newServer(t, c.token)
		r := httptest.NewRequest(http.MethodPost, "/api/v1/orders", strings.NewReader(order))
		r.RemoteAddr, r.Host = c.from, cmp.Or(c.host, "localhost")
		r.Header.Set("Content-Type", cmp.Or(c.kind, "application/json"))
		if c.bearer != "" {
			r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(c.bearer))
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if refused := w.Code == 403 && c.origin == "" || w.Code == 415; refused != (w.Header().Get("Connection") == "close") {
			t.Errorf("%s: %d, and its connection: %q", name, w.Code, w.Header().Get("Connection"))
		}
		if w.Code != c.code || (len(mesh.orders) == 1) != (c.code == 200) {
			t.Errorf("%s: %d, want %d; orders %v: %s", name, w.Code, c.code, mesh.orders, w.Body)
		}
		s.ln.Close()
	}
}

func TestRefusedReload(t *testing.T) {
	s, _ := newServer(t, "")
	resp, err := http.Post(serve(t, s)+"/api/v1/reload", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 409 || !strings.Contains(string(b), "nearcast.yaml:1: no") {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

// A reload that takes longer than a body may is not given up for that.
func TestLongReload(t *testing.T) {
	s, _ := newServer(t, "")
	s.http.ReadTimeout /= 200 // so that the test does not take so long
	s.o.Reload = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * s.http.ReadTimeout):
			return nil
		}
	}
	resp, err := http.Post(serve(t, s)+"/api/v1/reload", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		t.Errorf("%d %s %v", resp.StatusCode, b, err)
	}
}

// A body that does not come holds a connection for readTimeout, no longer.
func TestSlowBody(t *testing.T) {
	s, _ := newServer(t, "")
	s.http.ReadTimeout /= 200 // so that the test does not take so long
	serve(t, s)
	for _, path := range []string{"orders", "reload"} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{", path)
		c.SetReadDeadline(time.Now().Add(headerTimeout))
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Errorf("%s: the connection stays", path)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	s, _ := newServer(t, "")
	serve(t, s)
	if _, err := Listen(Options{Addr: s.Addr(), Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("a taken address: %v", err)
	}
}

// A page that made its name lead to loopback learns nothing.
func TestReadingByName(t *testing.T) {
	s, _ := newServer(t, "")
	at := serve(t, s)
	for host, code := range map[string]int{"evil.example": 403, "localhost": 200, "127.0.0.1": 200} {
		r, err := http.NewRequest(http.MethodGet, at+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("as %s: %d, want %d", host, resp.StatusCode, code)
		}
	}
}

// The token is the one of now.
func TestTokenChanges(t *testing.T) {
	s, _ := newServer(t, "")
	defer s.ln.Close()
	token := "old"
	s.o.Token = func() string { return token }
	order := func(bearer string) int {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/reload", nil)
		r.Header.Set("Authorization", "Bearer "+bearer)
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		return w.Code
	}
	before := order("old")
	token = "new"
	if got := fmt.Sprint(before, order("old"), order("new")); got != "409 403 409" { // the reload itself fails here
		t.Error(got)
	}
}

// Refused orders are not a way to fill the log.
func TestRefusalsAreLoggedOnce(t *testing.T) {
	s, _ := newServer(t, "")
	defer s.ln.Close()
	var log bytes.Buffer
	s.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 100 {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/reload", nil)
		s.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
}

// One address that holds its connections keeps nobody else out, and has its share again when it lets go.
func TestConnectionsOfOneAddress(t *testing.T) {
	s, _ := newServer(t, "")
	at := serve(t, s)
	var held []net.Conn
	for range 2 * maxFromOne {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	for _, c := range held[maxFromOne:] { // those beyond are closed
		c.SetReadDeadline(time.Now().Add(headerTimeout / 2))
		if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Fatalf("a connection beyond the share of an address stays open: %v", err)
		}
	}
	if code, _ := get(t, at+"/healthz"); code != 200 {
		t.Errorf("another address: %d", code)
	}
	for _, c := range held {
		c.Close()
	}
	shares := s.ln.(*shared)
	for end := time.Now().Add(headerTimeout); ; time.Sleep(time.Millisecond) {
		shares.mu.Lock()
		left := len(shares.from)
		shares.mu.Unlock()
		if left <= 1 { // that of this test's own client
			break
		}
		if time.Now().After(end) {
			t.Fatalf("shares of %d addresses are still taken", left)
		}
	}
}

// Orders, guards and suppressed flips are in the status and the metrics.
func TestStatusTellsOrdersAndGuards(t *testing.T) {
	s, v := snapshot(t)
	order := func(kind string, share float64) *healthmesh.Order {
		return &healthmesh.Order{Kind: kind, Share: share, By: "director-2", Reason: "test"}
	}
	us := *v.Regions["us-east"]
	us.Order, us.Drained, us.Shed, us.Suppressed = order(healthmesh.Drain, 0), 0.4375, order(healthmesh.Shed, 0.25), 3
	eu := *v.Regions["eu-west"]
	eu.Order = order(healthmesh.PinDown, 0)
	frozen := &healthmesh.View{Freeze: order(healthmesh.Freeze, 0), Regions: map[string]*healthmesh.Region{"us-east": &us, "eu-west": &eu}}
	s = steer.Build(steer.Input{Survey: s.Survey, View: frozen})
	st := makeStatus("director-1", s, frozen, time.Now())
	if got, want := st.Services[0].Regions[0].Cause, "sheds 25 % at director-2: test; drained at director-2: test, without effect here: min_active is 1; heard (frozen at director-2: test)"; got != want || st.Regions[0].Suppressed != 3 {
		t.Errorf("us-east in www: %s, %d suppressed; want %s, 3", got, st.Regions[0].Suppressed, want)
	}
	if got, want := st.Regions[0].Cause, "draining, 44 % gone: drained at director-2: test, without effect for min_active of its services; sheds 25 % at director-2: test; heard (frozen at director-2: test)"; got != want {
		t.Errorf("us-east: %s; want %s", got, want)
	}
	if r := st.Regions[1]; r.State != "pinned-down" {
		t.Errorf("eu-west is %s, want pinned-down", r.State)
	}
	// Both orders were given at the same time, so the first by name has an effect.
	wants := []string{
		"states are held whatever the evidence: frozen at director-2: test",
		"www.geo.example.com.: us-east, drained at director-2: test, without effect here: min_active is 1",
	}
	for _, want := range wants {
		if !slices.Contains(st.Warnings, want) {
			t.Errorf("no warning %q in %q", want, st.Warnings)
		}
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(Beliefs{Snapshot: func() *steer.Snapshot { return s }, View: func() *healthmesh.View { return frozen }, Stats: func() healthmesh.Stats { return healthmesh.Stats{} }})
	got := map[string]float64{}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.Gauge.GetValue()
		}
	}
	for name, want := range map[string]float64{
		"nearcast_frozen": 1, "nearcast_region_drained_ratio us-east": 0.4375, "nearcast_region_drained_ratio eu-west": 0, "nearcast_region_shed_ratio us-east": 0.25,
		"nearcast_region_state eu-west pinned-down": 1, "nearcast_region_state us-east up": 1, "nearcast_guard_held us-east www.geo.example.com.": 0,
		"nearcast_region_returning us-east": 0, "nearcast_isolated": 0, "nearcast_service_fail_open www.geo.example.com.": 0,
	} {
		if x, ok := got[name]; !ok || x != want {
			t.Errorf("%s is %v (there: %v), want %v", name, x, ok, want)
		}
	}
}
