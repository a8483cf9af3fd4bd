package healthmesh

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// atDefaults starts a node as a process would: with memberlist's and the mesh's own times.
func atDefaults(t *testing.T, o Options) *node {
	t.Helper()
	o.Config.Listen, o.Dir, o.Log = "127.0.0.1:0", t.TempDir(), testLog(t).With("node", o.Name)
	m, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{m, t, o}
	t.Cleanup(n.leave)
	return n
}

// keeps waits until all nodes see what is wanted. The promise is what an idle machine keeps with room to spare; on one
// that is busy with others' work, `slack` times as long is no failure.
func keeps(t *testing.T, promise time.Duration, nodes []*node, what string, met func(*View) bool) {
	t.Helper()
	const slack = 2
	began := time.Now()
	for _, n := range nodes {
		n.eventually(what, met)
	}
	took := time.Since(began)
	t.Logf("%-34s %6v of %v", what, took.Round(time.Millisecond), promise)
	if took > slack*promise {
		t.Errorf("%s took %v, promised are %v", what, took, promise)
	}
}

// The times that operators are promised hold at the default settings, with agents that check real servers.
func Test_the_default_settings_keep_their_promises(t *testing.T) {
	t.Parallel()
	d1 := atDefaults(t, director("d1"))
	d2 := atDefaults(t, director("d2", d1))
	directors := []*node{d1, d2}
	server := newEndpoint(t)
	check := Check{Type: checkHTTP, Port: port(t, server.Listener.Addr())}.withDefaults()
	var agents []*node
	endpoint := make(map[string]EndpointID)
	for _, region := range []string{"a", "b", "c"} {
		n := atDefaults(t, agentIn(region, d1, d2))
		agents = append(agents, n)
		target := Target{ID: ID("www.geo.example.com.", region, "127.0.0.1"), Service: "www.geo.example.com.", Endpoint: "127.0.0.1", Checks: []Check{check}}
		endpoint[region] = target.ID
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			RunAgent(ctx, n.Mesh, AgentOptions{Targets: []Target{target}, Capacity: 100, Log: slog.New(slog.DiscardHandler)}, nil)
		})
		t.Cleanup(func() { stop(); running.Wait() })
	}
	state := func(region string, want State) func(*View) bool {
		return func(v *View) bool {
			r := v.Regions[region]
			return r != nil && r.State == Up && r.Endpoints[endpoint[region]].State == want
		}
	}
	whole := func(region string, want State, cause string) func(*View) bool {
		return func(v *View) bool { r := v.Regions[region]; return r != nil && r.State == want && r.Cause == cause }
	}
	for _, region := range []string{"a", "b", "c"} {
		keeps(t, 4*time.Second, directors, region+" is up", state(region, Up))
	}
	fall := time.Duration(check.Fall)*check.Interval + check.Timeout
	rise := max(time.Duration(check.Rise)*check.Interval, check.HoldDown) + check.Interval + check.Timeout
	server.failing.Store(true)
	keeps(t, 2*time.Second+fall, directors, "endpoint a is down", state("a", Down))
	server.failing.Store(false)
	keeps(t, 2*time.Second+rise, directors, "endpoint a is up again", state("a", Up))

	if err := d1.Give(t.Context(), Order{Region: "c", Kind: Drain}); err != nil {
		t.Fatal(err)
	}
	keeps(t, time.Second, directors, "order for c", func(v *View) bool { return v.Regions["c"].Order != nil })
	agents[0].kill()
	keeps(t, 6*time.Second, directors, "a is down after SIGKILL", whole("a", Down, "silent for 5s"))
	var leaving sync.WaitGroup
	leaving.Go(agents[1].leave)
	keeps(t, time.Second, directors, "b is down after it left", whole("b", Down, causeLeft))
	leaving.Wait()
}

// A node that was away takes the last report of an agent that died meanwhile for what it is: old.
func Test_a_late_node_does_not_believe_in_the_dead(t *testing.T) {
	directors, agents := cluster(t, nil)
	agents["a"].kill()
	directors[0].sees("a down silent for 500ms, b up, c up")
	late := begin(t, director("late", directors...), nil)
	for deadline := time.Now().Add(4 * testLease); time.Now().Before(deadline); {
		if r := late.View().Regions["a"]; r != nil && r.State == Up {
			t.Fatalf("it believes in a: %+v", r)
		}
		select {
		case <-late.Changed():
		case <-time.After(testBeat):
		}
	}
	late.sees("a down silent for 500ms, b up, c up")
}

// The only region is held when it falls silent, and down when its agent leaves; of two, the silent one is down.
func Test_meshes_of_few_regions(t *testing.T) {
	d1 := begin(t, director("d1"), nil)
	d2 := begin(t, director("d2", d1), nil)
	a := begin(t, agentIn("a", d1), nil)
	a.Publish(up(endpointA))
	d1.sees("a up")
	d2.sees("a up")
	a.kill()
	for _, d := range []*node{d1, d2} {
		d.sees("a up held")
		d.eventually("that it may be cut off", func(v *View) bool { return v.Isolated })
	}
	a = a.again(nil)
	a.Publish(up(endpointA))
	b := begin(t, agentIn("b", d1), nil)
	b.Publish(up(endpointA))
	d1.sees("a up, b up")
	d2.sees("a up, b up")
	b.kill()
	d1.sees("a up, b down silent for 500ms")
	d2.sees("a up, b down silent for 500ms")
	a.leave()
	d1.sees("a down left, b down silent for 500ms")
	d2.sees("a down left, b down silent for 500ms")
}

// A list of nodes to join may name the node itself and nodes that are down, by address or by a name that is none.
func Test_join_may_list_anything(t *testing.T) {
	d1 := begin(t, director("d1"), nil)
	d1.leave()
	o := director("d2")
	o.Config.Listen = "127.0.0.1:0"
	d2 := begin(t, o, nil)
	d2.leave() // its port is known now
	o.Config.Join = []string{"no-such-host.invalid:7946", "127.0.0.1:9", d1.Addr(), d2.Addr(), mute(t)}
	o.Config.Listen = d2.Addr()
	d2 = begin(t, o, nil)
	d1.o.Config.Join = o.Config.Join
	d1 = d1.again(nil) // and now one of these is not down any more
	for _, d := range []*node{d1, d2} {
		d.eventually("two members", func(v *View) bool { return len(v.Members) == 2 })
	}
}

// What is not understood is counted, and changes nothing else.
func Test_garbage_is_counted(t *testing.T) {
	d := begin(t, director("d"), nil)
	a := begin(t, agentIn("a", d), nil)
	a.Publish(up(endpointA))
	d.sees("a up")
	a.eventually("the director", func(v *View) bool { return len(v.Members) == 2 })
	to := d.list.LocalNode()
	garbage := [][]byte{
		{0}, {kindReport}, {kindReport, 0, 0, 0, 0}, {kindReport, 0, 0, 0, 0, reportVersion}, {kindOrder}, []byte("\x02{}"), {99, 1, 2, 3},
	}
	for _, g := range garbage {
		if err := a.list.SendReliable(to, g); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually("all garbage counted", func(*View) bool { return d.Stats().Undecodable >= uint64(len(garbage)) })
	if got := d.Stats().Undecodable; got != uint64(len(garbage)) {
		t.Errorf("%d counted, %d sent", got, len(garbage))
	}
	d.sees("a up")
}
