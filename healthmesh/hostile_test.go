package healthmesh

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// guarded is a plan that binds regions to keys: agents of each sign with the identity of that name.
func guarded(regions map[string]*Identity, directors ...*Identity) *Plan {
	p := &Plan{Witnesses: 3}
	for name, i := range regions {
		p.Regions = append(p.Regions, PlanRegion{Name: name, Capacity: 100, Keys: []PublicKey{i.Public()}})
		p.Targets = append(p.Targets, Target{ID: ID("www.geo.example.com.", name, "127.0.1.1"), Region: name, Service: "www.geo.example.com.", Endpoint: "127.0.1.1"})
	}
	for _, i := range directors {
		p.Directors = append(p.Directors, i.Public())
	}
	return p
}

// A region that is bound to keys is what its own agents say, whoever else has the mesh's key: not what an agent without a key says,
// nor one with another region's, whatever name and numbers it takes.
func Test_only_its_own_agents_speak_for_a_region(t *testing.T) {
	a, b, stranger := someone(t), someone(t), someone(t)
	regions := map[string]*Identity{"a": a, "b": b}
	o := director("d1")
	o.Plan = guarded(regions)
	d := begin(t, o, nil)
	agent := func(region, name string, i *Identity, s Status) *node {
		o := agentIn(region, d)
		o.Name, o.Identity, o.Plan = name, i, guarded(regions)
		n := begin(t, o, nil)
		n.Publish(s)
		return n
	}
	agent("a", "a-agent", a, up(endpointA))
	agent("b", "b-agent", b, up())
	d.sees("a up, b up")
	down := up()
	down.Endpoints[endpointA] = Endpoint{State: Down, Reason: "timeout"}
	agent("a", "a-none", nil, down)
	agent("a", "a-other", b, down)
	agent("a", "a-stranger", stranger, down)
	agent("b", "b-liar", b, down)
	d.eventually("forged reports of three are counted, and two agents of b heard", func(v *View) bool {
		return d.Stats().Forged >= 3*3 && len(v.Regions["b"].Agents) == 2
	})
	if r := d.View().Regions["a"]; len(r.Agents) != 1 || r.Endpoints[endpointA].State != Up || r.State != Up {
		t.Errorf("region a is %+v", r)
	}
}

// What is no message, what was said before, and what is not signed changes no view, and stops no node. It comes here as packets that
// memberlist has decrypted would.
func Test_hostile_messages_change_no_view(t *testing.T) {
	a, b := someone(t), someone(t)
	o := director("d1")
	o.Plan = guarded(map[string]*Identity{"a": a, "b": b})
	log := &logbook{}
	o.Log = log.log()
	d := begin(t, o, nil)
	now := time.Now()
	make := func(region string, i *Identity, n numbering, s State, leaving bool) *part {
		r := report{Agent: region + "-agent", Region: region, numbering: n, Parts: 1, Leaving: leaving, Capacity: 50, Endpoints: []reported{{ID: endpointA, State: s}}}
		body := r.encode(nil)
		raw := i.sign(signReport, body)
		return &part{report: r, raw: raw, at: now}
	}
	true1 := make("a", a, numbering{1000, 5}, Up, false)
	d.core.gossip.NotifyMsg(reportMessage(true1, now))
	d.sees("a up")
	bad := [][]byte{
		nil, {0}, {kindReport}, {kindOrder}, {99, 1, 2}, []byte("GET / HTTP/1.1"),
		reportMessage(make("a", a, numbering{1000, 4}, Down, false), now),    // older
		reportMessage(make("a", a, numbering{999, 9}, Down, true), now),      // of an earlier life
		reportMessage(make("a", b, numbering{1000, 6}, Down, false), now),    // another region's key
		reportMessage(make("a", nil, numbering{1001, 1}, Down, true), now),   // no signature
		reportMessage(make("a", a, numbering{1 << 60, 1}, Down, false), now), // a number that leaves none to successors
		reportMessage(make("a", a, numbering{1001, 1 << 63}, Down, false), now),
		append(reportMessage(make("a", a, numbering{1000, 7}, Down, false), now), 0),
	}
	tampered := make("a", a, numbering{1000, 8}, Up, false)
	tampered.raw[len(tampered.raw)-signatureBytes-endpointBytes+8] = byte(Down)
	bad = append(bad, reportMessage(tampered, now))
	// A signature of a report is none of orders, and the other way around.
	bad = append(bad, append([]byte{kindOrder}, true1.raw...))
	for _, kind := range []byte{kindReport, kindOrder, kindRing} { // too large
		bad = append(bad, slices.Repeat([]byte{kind}, 1<<20))
	}
	bad = append(bad, append(reportMessage(make("a", a, numbering{1000, 9}, Down, false), now), slices.Repeat([]byte{0}, maxReport)...))
	for round := range 3 {
		for _, m := range bad {
			d.core.gossip.NotifyMsg(m)
			d.core.gossip.MergeRemoteState(m, false)
		}
		d.core.gossip.NotifyMsg(reportMessage(true1, now)) // a replay
		seen := make("a", a, numbering{1000, uint64(10 + round)}, Up, false)
		d.core.gossip.NotifyMsg(reportMessage(seen, time.Now()))
		d.eventually("the agent's next report", func(*View) bool { return d.View().Regions["a"].Heard.After(now) })
		if e := d.View().Regions["a"].Endpoints[endpointA]; e.State != Up || describe(d.View()) != "a up" {
			t.Fatalf("after round %d: %s, %+v", round, describe(d.View()), e)
		}
		now = d.View().Regions["a"].Heard
	}
	// After the first round two of the three without the right signature have old numbers, and are not looked at again.
	if s := d.Stats(); s.Undecodable == 0 || s.Forged != 3+1+1 || s.Earlier != 3 || s.Refused != 0 {
		t.Errorf("counted: %+v", s)
	}
	for _, line := range []string{"not understood", "not signed", "earlier life"} {
		if n := log.count(line); n != 1 {
			t.Errorf("%d lines of what is %q within a minute, want 1", n, line)
		}
	}
}

// Bytes from who has no key reach nothing: neither over UDP nor over a stream.
func Test_strangers_bytes_change_no_view(t *testing.T) {
	d := begin(t, director("d1"), nil)
	begin(t, agentIn("a", d), nil).Publish(up(endpointA))
	d.sees("a up")
	udp, err := net.Dial("udp", d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for n := range 64 {
		fmt.Fprintf(udp, "%c%s", n, "garbage of some length")
	}
	tcp, err := net.Dial("tcp", d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	fmt.Fprint(tcp, "\x06garbage")
	from := time.Now()
	d.eventually("the agent goes on being heard", func(v *View) bool { return v.Regions["a"].Heard.After(from.Add(2 * testBeat)) })
	if got := describe(d.View()); got != "a up" {
		t.Errorf("the view is %s", got)
	}
}

// A region that the configuration does not have speaks for nobody: who has the mesh's key and no region's could invent any number of them.
func Test_invented_regions_are_not_believed(t *testing.T) {
	a, b := someone(t), someone(t)
	o := director("d1")
	o.Plan = guarded(map[string]*Identity{"a": a, "b": b})
	d := begin(t, o, nil)
	now := time.Now()
	say := func(region string, i *Identity, endpoints ...reported) {
		r := report{Agent: region + "-agent", Region: region, numbering: numbering{1000, 1}, Parts: 1, Endpoints: endpoints}
		raw := i.sign(signReport, r.encode(nil))
		d.core.gossip.NotifyMsg(reportMessage(&part{report: r, raw: raw, at: now}, now))
	}
	ofA, ofB := ID("www.geo.example.com.", "a", "127.0.1.1"), ID("www.geo.example.com.", "b", "127.0.1.1")
	for _, invented := range []string{"x", "y", "z"} {
		lies := []reported{{ID: ofA, State: Down}, {ID: ofB, State: Up}}
		slices.SortFunc(lies, func(v, w reported) int { return cmp.Compare(v.ID, w.ID) })
		say(invented, nil, lies...)
	}
	say("a", a, reported{ID: ofA, State: Up})
	d.sees("a up")
	if e := d.View().Regions["a"].Endpoints[ofA]; e.State != Up {
		t.Errorf("the endpoint is %+v", e)
	}
	if s := d.Stats(); s.Forged != 3 {
		t.Errorf("counted: %+v", s)
	}
}
