package healthmesh

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func Test_an_agent_that_dies_takes_its_region_down_at_all_directors(t *testing.T) {
	directors, agents := cluster(t, nil)
	agents["a"].kill()
	killed := time.Now()
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
	}
	t.Logf("down %v after the kill, with a lease of %v", time.Since(killed).Round(time.Millisecond), testLease)

	agents["a"] = agents["a"].again(nil)
	agents["a"].Publish(up(endpointA))
	for _, d := range directors {
		d.sees("a up, b up, c up")
	}
}

func Test_an_agent_that_leaves_takes_its_region_down_at_once(t *testing.T) {
	directors, agents := cluster(t, nil)
	left := time.Now()
	agents["a"].leave()
	for _, d := range directors {
		d.sees("a down left, b up, c up")
	}
	t.Logf("down %v after the start of leaving, with a lease of %v", time.Since(left).Round(time.Millisecond), testLease)
}

// A director that is cut off from all holds its last view and says so; when the cut heals, it sees what the others see.
func Test_a_director_that_is_cut_off_holds_its_view(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	cut := directors[1]
	net.set(true, cut)
	cut.sees("a up held, b up held, c up held")
	cut.eventually("that it is isolated", func(v *View) bool { return v.Isolated })
	agents["a"].kill()
	directors[0].sees("a down silent for 500ms, b up, c up")
	if got := describe(cut.View()); got != "a up held, b up held, c up held" {
		t.Errorf("the one that is cut off sees %s", got)
	}
	net.set(false, cut)
	cut.sees("a down silent for 500ms, b up, c up")
	cut.eventually("that it is not isolated", func(v *View) bool { return !v.Isolated })
}

// An agent whose packets are lost, as where UDP is blocked, is heard over streams; most of the time at least, on a busy machine.
func Test_an_agent_whose_packets_are_lost_is_heard_over_streams(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	net.blockPackets(agents["a"])
	heard, looks := 0, 0
	for end := time.Now().Add(10 * testLease); time.Now().Before(end); time.Sleep(testBeat / 4) {
		for _, d := range directors {
			looks++
			if r := d.View().Regions["a"]; r.State == Up && !r.Held {
				heard++
			}
		}
	}
	if heard < looks*9/10 {
		t.Errorf("heard at %d of %d looks", heard, looks)
	}
	agents["a"].kill()
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
	}
}

// A region that is cut off with its agent falls, and comes back when the cut heals, however long it was.
func Test_a_region_that_is_cut_off_comes_back(t *testing.T) {
	net := newNetwork()
	directors, agents := cluster(t, net)
	net.set(true, agents["a"])
	for _, d := range directors {
		d.sees("a down silent for 500ms, b up, c up")
		d.eventually("that the agent is no member any more", func(v *View) bool { return len(v.Members) == 4 })
	}
	net.set(false, agents["a"])
	for _, d := range directors {
		d.sees("a up, b up, c up")
	}
}

// A director that starts again believes at once what it believed when it ended, and then what the others do.
func Test_a_director_begins_with_its_last_view(t *testing.T) {
	directors, agents := cluster(t, nil)
	agents["a"].leave()
	directors[1].sees("a down left, b up, c up")
	directors[1].leave()
	again := directors[1].again(nil)
	if got := describe(again.View()); got != "a down left held, b up held, c up held" && got != "a down left, b up, c up" {
		t.Errorf("at its start it sees %s", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again.Settled(ctx)
	if ctx.Err() != nil {
		t.Fatal("it does not settle")
	}
	again.sees("a down left, b up, c up")
}

// A director alone settles as soon as no seed answers, and knows of nothing.
func Test_a_director_alone_settles(t *testing.T) {
	o := director("alone")
	o.Config.Join = []string{"127.0.0.1:9"}
	d := begin(t, o, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if d.Settled(ctx); ctx.Err() != nil {
		t.Fatal("it does not settle")
	}
	if got := describe(d.View()); got != "" {
		t.Errorf("it sees %s", got)
	}
}

// An order holds at all directors, over restarts, until it is taken back at another one.
func Test_orders_hold_everywhere(t *testing.T) {
	directors, _ := cluster(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := directors[0].Give(ctx, Order{Region: "b", Kind: Drain, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if got := describe(directors[0].View()); got != "a up, b up drain, c up" {
		t.Errorf("when Give returns its director sees %s", got)
	}
	directors[1].sees("a up, b up drain, c up")
	directors[1].kill()
	again := directors[1].again(nil)
	if o := again.View().Regions["b"].Order; o == nil || o.Kind != Drain || o.By != "d1" || o.Reason != "test" {
		t.Errorf("at its start it has the order %+v", o)
	}
	if err := again.Give(ctx, Order{Region: "b", Kind: None}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*node{directors[0], again} {
		d.sees("a up, b up, c up")
	}
	if err := again.Give(ctx, Order{Region: "b", Kind: Drain, For: testLease}); err != nil {
		t.Fatal(err)
	}
	directors[0].sees("a up, b up drain, c up")
	for _, d := range []*node{directors[0], again} {
		d.sees("a up, b up, c up")
	}
}

// A node without the key, with another, or with another label has no part in the mesh.
func Test_only_who_has_the_key_and_the_label_is_heard(t *testing.T) {
	key, other := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "other")
	for _, file := range []string{key, other} {
		if err := os.WriteFile(file, []byte(GenerateKey()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	with := director("d1")
	with.Config.KeyFile = key
	d := begin(t, with, nil)
	friend := agentIn("a", d)
	friend.Config.KeyFile = key
	begin(t, friend, nil).Publish(up(endpointA))
	for region, c := range map[string]struct{ key, label string }{"b": {"", ""}, "c": {other, ""}, "d": {key, "another mesh"}} {
		stranger := agentIn(region, d)
		stranger.Config.KeyFile, stranger.Config.Label = c.key, c.label
		begin(t, stranger, nil).Publish(up(endpointA))
	}
	d.sees("a up")
	time.Sleep(4 * testBeat) // for what must not come
	if got := describe(d.View()); got != "a up" {
		t.Errorf("%s", got)
	}
}

// A folder with a memory that makes no sense is used all the same, and what was there is kept.
func Test_a_bad_memory_is_moved_aside(t *testing.T) {
	for _, bad := range []string{"{nonsense", `{"version":2,"regions":{"a":{"state":1,"endpoints":{"7":{"State":3}}}}}`} {
		dir := filepath.Join(t.TempDir(), "state")
		o := director("d1")
		o.Dir = dir
		begin(t, o, nil).kill()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info, err)
		}
		if err := os.WriteFile(filepath.Join(dir, diskFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		begin(t, o, nil)
		if b, err := os.ReadFile(filepath.Join(dir, diskFile+".bad")); err != nil || string(b) != bad {
			t.Errorf("%q, %v", b, err)
		}
		info, err := os.Stat(filepath.Join(dir, diskFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func Test_what_Start_refuses(t *testing.T) {
	for want, o := range map[string]Options{
		"node name":              {Name: "two words", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"agent's region":         {Name: "x", Role: roleAgent, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"role":                   {Name: "x", Role: "king", Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0"}},
		"without a state folder": {Name: "x", Role: roleDirector, Config: Config{Listen: "127.0.0.1:0"}},
		"key file":               {Name: "x", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "127.0.0.1:0", KeyFile: "/gone"}},
		"192.0.2.1":              {Name: "x", Role: roleDirector, Dir: t.TempDir(), Config: Config{Listen: "192.0.2.1:0"}},
	} {
		o.Log = slog.New(slog.DiscardHandler)
		if m, err := Start(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
			if m != nil {
				m.Close(context.Background())
			}
		}
	}
}
