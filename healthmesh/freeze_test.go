package healthmesh

import (
	"testing"
)

// While a freeze is in force, states stay as they were at each director, over its restarts, and what had none gets one; amounts go on.
func Test_a_freeze_holds_states(t *testing.T) {
	directors, agents := cluster(t, nil)
	give := func(d *node, o Order) {
		t.Helper()
		if err := d.Give(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := func(v *View, region string) State { return v.Regions[region].Endpoints[endpointA].State }
	give(directors[0], Order{Kind: Freeze, Reason: "the checks are wrong"})
	for _, d := range directors {
		d.eventually("the freeze", func(v *View) bool { return v.Freeze != nil && v.Freeze.Reason == "the checks are wrong" })
	}
	agents["a"].leave()
	bad := up()
	bad.Capacity, bad.Endpoints = 70, map[EndpointID]Endpoint{endpointA: {State: Down, Reason: "timeout"}}
	agents["b"].Publish(bad)
	added := begin(t, agentIn("n", directors...), nil)
	added.Publish(up(endpointA))
	held := func(v *View) bool {
		a, b, n := v.Regions["a"], v.Regions["b"], v.Regions["n"]
		return a.State == Up && a.Held && a.Cause == causeHeard && b.Held && b.Capacity == 70 && endpoint(v, "b") == Up && n != nil && n.State == Up
	}
	for _, d := range directors {
		d.eventually("old states, a new region and a new capacity", held)
	}
	directors[1].kill()
	directors[1] = directors[1].again(nil)
	if v := directors[1].View(); v.Freeze == nil || v.Regions["a"].State != Up || endpoint(v, "b") != Up {
		t.Errorf("it starts with %s", describe(v))
	}
	directors[1].eventually("the same after its restart", held)
	give(directors[1], Order{Region: "c", Kind: Drain}) // orders count all the same
	directors[0].eventually("a drain", func(v *View) bool { return v.Regions["c"].Order != nil })
	give(directors[1], Order{Region: "c", Kind: None})

	give(directors[1], Order{Kind: None})
	for _, d := range directors {
		d.eventually("what evidence says", func(v *View) bool {
			return v.Freeze == nil && v.Regions["a"].State == Down && endpoint(v, "b") == Down && v.Regions["c"].State == Up
		})
	}
}
