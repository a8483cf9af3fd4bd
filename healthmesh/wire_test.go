package healthmesh

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func someReport(t *rapid.T) report {
	name := rapid.StringMatching(`[!-~]{1,40}`)
	r := report{
		Agent: name.Draw(t, "agent"), Region: name.Draw(t, "region"),
		numbering: numbering{rapid.Uint64Max(maxIncarnation).Draw(t, "incarnation"), rapid.Uint64Max(maxSequence).Draw(t, "sequence")},
		Elapsed:   rapid.Uint64Max(maxElapsed).Draw(t, "elapsed"), Suppressed: rapid.Uint32().Draw(t, "suppressed"),
		Parts: rapid.Uint8Range(1, maxParts).Draw(t, "parts"), Leaving: rapid.Bool().Draw(t, "leaving"),
		Capacity: rapid.Float64Range(0, 1e12).Draw(t, "capacity"), HasLoad: rapid.Bool().Draw(t, "has load"),
	}
	r.Part = rapid.Uint8Range(0, r.Parts-1).Draw(t, "part")
	if r.HasLoad {
		r.Load, r.LoadStale = rapid.Float64Range(0, 1e12).Draw(t, "load"), rapid.Bool().Draw(t, "stale")
	}
	id := EndpointID(0)
	for range rapid.IntRange(0, endpointsPerPart).Draw(t, "endpoints") {
		id += EndpointID(rapid.Uint64Range(1, math.MaxUint64/endpointsPerPart).Draw(t, "id"))
		r.Endpoints = append(r.Endpoints, reported{id, State(rapid.IntRange(0, 2).Draw(t, "state")), reason{code: reasonRefused}, rapid.Uint64Max(r.Elapsed).Draw(t, "since")})
	}
	return r
}

// decode is the inverse of encode, and the largest report fits its bound.
func TestReportRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := someReport(t)
		b := r.encode(nil)
		got, _, _, err := decodeReport(b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v, want %+v: %v", got, r, err)
		}
	})
	full := report{Agent: strings.Repeat("a", maxName), Region: strings.Repeat("r", maxRegionName), Parts: 1}
	for i := range endpointsPerPart {
		full.Endpoints = append(full.Endpoints, reported{ID: EndpointID(i + 1)})
	}
	if n := len(someone(t).sign(signReport, full.encode(nil))); n != maxReport {
		t.Errorf("the largest report has %d bytes, its bound is %d", n, maxReport)
	}
}

// A status of any size is split into parts that together say what it says.
func TestSplit(t *testing.T) {
	for _, n := range []int{0, 1, endpointsPerPart, endpointsPerPart + 1, maxEndpoints, maxEndpoints + 5} {
		s := Status{Capacity: math.NaN(), Load: -3, HasLoad: true, Endpoints: map[EndpointID]Endpoint{}}
		for i := range n {
			s.Endpoints[EndpointID(i+1)] = Endpoint{State: Up, Reason: "status 200"}
		}
		seen := map[EndpointID]bool{}
		parts := split(report{Agent: "x", Region: "a"}, s, time.Now())
		for i, p := range parts {
			if int(p.Part) != i || int(p.Parts) != len(parts) || p.Capacity != 0 || p.Load != 0 {
				t.Errorf("%d endpoints: part %d is %d of %d, capacity %v, load %v", n, i, p.Part, p.Parts, p.Capacity, p.Load)
			}
			got, _, _, err := decodeReport(p.encode(nil))
			if err != nil {
				t.Fatalf("%d endpoints: %v", n, err)
			}
			for _, e := range got.Endpoints {
				seen[e.ID] = true
			}
		}
		if len(seen) != min(n, maxEndpoints) {
			t.Errorf("%d endpoints: %d in the parts", n, len(seen))
		}
	}
}

func TestStateRoundTrip(t *testing.T) {
	now := time.Now()
	var parts []*part
	for i := range 5 {
		r := report{Agent: "agent", Region: "a", numbering: numbering{1, uint64(i)}, Parts: 1}
		parts = append(parts, &part{report: r, raw: r.encode(nil), at: now.Add(-time.Duration(i) * time.Second)})
	}
	o := drain(func(o *Order) { o.Given, o.Reason = now.Add(-time.Minute), `"quoted" <&>` })
	key := someone(t)
	m, err := decodeState(encodeState("me", parts, sealed([]Order{o}, key, now), now), now.Add(time.Hour))
	o.Given = o.Given.Add(time.Hour)
	if err != nil || m.from != "me" || m.bad != 0 || len(m.parts) != 5 || len(m.seal.orders) != 1 || m.seal.orders[0] != o {
		t.Fatalf("%+v, %v", m, err)
	}
	if plan := (&Plan{Directors: []PublicKey{key.Public()}}).index(); !plan.vouched(*m.seal) {
		t.Error("the seal is not good any more")
	}
	for i, p := range m.parts {
		// What was i seconds old there is as old here, by this node's clock.
		if age := now.Add(time.Hour).Sub(p.at); age != time.Duration(i)*time.Second || !bytes.Equal(p.raw, parts[i].raw) {
			t.Errorf("report %d is %v old", i, age)
		}
	}
}

// someone is an identity of its own.
func someone(t testing.TB) *Identity {
	t.Helper()
	i, err := ParseIdentity(GenerateIdentity())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var fuzzPlan = (&Plan{Regions: []PlanRegion{{Name: "a", Capacity: 5}}, Targets: []Target{{ID: 7, Region: "a"}, {ID: 8, Region: "b"}}, Witnesses: 3, Directors: []PublicKey{{1}}}).index()

// Whatever bytes come, decoding ends, keeps its bounds, and gives back what it was given.
func FuzzDecode(f *testing.F) {
	now := time.Unix(1e9, 0)
	r := report{Agent: "agent", Region: "a", numbering: numbering{1, 2}, Parts: 1, Endpoints: []reported{{ID: 7, State: Up}}}
	p := &part{report: r, raw: r.encode(nil), at: now}
	o := Order{Region: "a", Kind: Drain, By: "d", At: now.UTC(), Given: now.Add(-time.Second), Over: time.Minute}
	freeze := Order{Kind: Freeze, By: "d", At: now.UTC(), Given: now, Owner: "ann@host"}
	f.Add(reportMessage(p, now))
	f.Add(ordersMessage(sealed([]Order{o, freeze}, nil, now)))
	f.Add(ordersMessage(sealed([]Order{o}, someone(f), now)))
	f.Add(encodeState("me", []*part{p}, sealed([]Order{o}, someone(f), now), now))
	f.Add(encodeState("me", []*part{p}, nil, now))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _, _, err := decodeReport(b); err == nil && !bytes.Equal(got.encode(nil), b) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b, got, got.encode(nil))
		}
		if got, err := unseal(b, now); err == nil {
			again, err := unseal(sealed(got.orders, nil, now), now)
			if err != nil || again.bad > 0 || !slices.Equal(again.orders, got.orders) {
				t.Errorf("orders %+v, then %+v: %v", got, again, err)
			}
		}
		for _, decode := range []func([]byte, time.Time) (message, error){decodeMessage, decodeState} {
			m, err := decode(b, now)
			if err != nil {
				continue
			}
			tab, all := newTable(5*time.Second), newOrders()
			for _, p := range m.parts {
				tab.apply(p, anyone, now)
			}
			if m.seal != nil {
				if fuzzPlan.vouched(*m.seal) {
					t.Error("orders that nobody signed are vouched for")
				}
				for _, o := range m.seal.orders {
					if _, err := all.apply(o, now); err != nil {
						t.Error(err)
					}
				}
			}
			compose(believe(tab, belief{}, fuzzPlan, 5*time.Second, now), all, nil, now)
		}
	})
}

func FuzzReason(f *testing.F) {
	for _, s := range []string{"", "status 200", "dns: SERVFAIL", "dns: rcode 77", "timeout", "anything"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := parseReason(s)
		if !r.valid() || parseReason(r.String()) != r {
			t.Errorf("%q is reason %v, %q, and that is %v", s, r, r.String(), parseReason(r.String()))
		}
	})
}
