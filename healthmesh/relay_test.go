package healthmesh

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// lossy makes a node's transport lose a share of the packets that it sends.
type lossy struct {
	*transport
	share float64
}

func (l *lossy) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if rand.Float64() < l.share {
		return time.Now(), nil
	}
	return l.transport.WriteToAddress(b, to)
}

// At the default pace, an order given at any director holds at all within a second, though a fifth of all packets is lost.
func Test_orders_hold_everywhere_within_a_second_of_a_lossy_network(t *testing.T) {
	var nodes []*node
	for i := range 4 {
		o := director(fmt.Sprint("d", i), nodes...)
		o.Config.Beat, o.Config.Lease = time.Second, 5*time.Second
		o.tune = func(c *memberlist.Config) {
			c.Transport = &lossy{c.Transport.(*transport), 0.2}
			c.SuspicionMult = 20 // a member that is lost for a while is another matter
		}
		nodes = append(nodes, start(t, o))
	}
	for _, n := range nodes {
		n.eventually("four members", func(v *View) bool { return len(v.Members) == 4 })
	}
	var took []time.Duration
	for i := range 10 {
		region := fmt.Sprint("r", i)
		given := time.Now()
		if err := nodes[i%4].Give(t.Context(), Order{Region: region, Kind: Drain}); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.eventually("a drain of "+region, func(v *View) bool { r := v.Regions[region]; return r != nil && r.Order != nil })
		}
		took = append(took, time.Since(given))
	}
	slices.Sort(took)
	most := took[len(took)-3]
	t.Logf("of %d orders half held everywhere after %v, all but two after %v, all after %v", len(took), took[len(took)/2].Round(time.Millisecond),
		most.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if most > time.Second || took[len(took)-1] > 5*time.Second { // two of ten can meet a machine that does something else for a second or so
		t.Errorf("orders took %v", took)
	}
}

// Ends and progress go by monotonic clocks: no jump of a director's wall clock moves them, nor brings back what ended before a restart.
func Test_jumps_of_wall_clocks_move_no_order(t *testing.T) {
	const over, length = 200 * time.Millisecond, 600 * time.Millisecond
	var skew atomic.Int64
	o := director("d1")
	o.Wall = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	d1 := begin(t, o, nil)
	d2 := begin(t, director("d2", d1), nil)
	d2.eventually("two members", func(v *View) bool { return len(v.Members) == 2 })
	for _, jump := range []time.Duration{1e5 * time.Hour, -1e5 * time.Hour} {
		given := time.Now()
		if err := d1.Give(t.Context(), Order{Region: "a", Kind: Drain, Over: over, For: length}); err != nil {
			t.Fatal(err)
		}
		skew.Add(int64(jump))
		for _, d := range []*node{d1, d2} {
			d.eventually("some of a drained", func(v *View) bool { r := v.Regions["a"]; return r == nil || r.Drained > 0 })
			d.eventually("all of a drained", func(v *View) bool { r := v.Regions["a"]; return r == nil || r.Drained == 1 })
			if past := time.Since(given); past < over {
				t.Errorf("%s has drained a after %v", d.o.Name, past)
			}
			d.sees("")
			if past := time.Since(given); past < length {
				t.Errorf("%s ends the drain after %v", d.o.Name, past)
			}
		}
	}
	d1.leave()
	skew.Add(int64(-1e4 * time.Hour))
	if got := describe(d1.again(nil).View()); got != "" {
		t.Errorf("at its start it sees %s", got)
	}
}

// What a partition kept apart is told at its end: the last order of a slot counts at both sides, whichever clock it was given by.
func Test_orders_of_both_sides_of_a_partition(t *testing.T) {
	net := newNetwork()
	d1 := begin(t, director("d1"), net)
	behind := director("d2", d1)
	behind.Wall = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	d2 := begin(t, behind, net)
	give := func(d *node, o Order) {
		t.Helper()
		if err := d.Give(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []*node{d1, d2} {
		d.eventually("two members", func(v *View) bool { return len(v.Members) == 2 })
	}
	give(d1, Order{Region: "a", Kind: Drain})
	d2.sees("a unknown drain")
	give(d2, Order{Region: "a", Kind: None}) // later, though its clock is a year behind
	d1.sees("")

	net.set(true, d2)
	give(d2, Order{Region: "b", Kind: PinDown, For: time.Hour})
	give(d1, Order{Region: "c", Kind: Drain})
	d1.eventually("that d2 is gone", func(v *View) bool { return len(v.Members) == 1 })
	net.set(false, d2)
	for _, d := range []*node{d1, d2} {
		d.sees("b unknown pin-down, c unknown drain")
	}
	give(d1, Order{Region: "b", Kind: None})
	d2.sees("c unknown drain")
}

// Where the plan lists directors, nobody else gives orders; agents carry what they gave all the same.
func Test_orders_are_taken_of_listed_directors_alone(t *testing.T) {
	net := newNetwork()
	k1, k2 := someone(t), someone(t)
	with := func(o Options, i *Identity) Options {
		o.Identity, o.Plan = i, &Plan{Directors: []PublicKey{k1.Public(), k2.Public()}} // its mesh keeps it
		return o
	}
	d1 := begin(t, with(director("d1"), k1), net)
	d2 := begin(t, with(director("d2", d1), k2), net)
	agent := begin(t, with(agentIn("a", d1, d2), nil), net)
	stranger := director("d3", d1, d2) // it has the key of the mesh, and none of a director; its own plan lists nobody
	stranger.Identity = someone(t)
	d3 := begin(t, stranger, net)
	for _, d := range []*node{d1, d2, d3, agent} {
		d.eventually("four members", func(v *View) bool { return len(v.Members) == 4 })
	}
	if err := d3.Give(t.Context(), Order{Region: "b", Kind: Drain}); err != nil {
		t.Fatal(err)
	}
	if err := d1.Give(t.Context(), Order{Region: "c", Kind: Drain}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*node{d1, d2, agent} {
		d.eventually("a forged order", func(*View) bool { return d.Stats().Forged > 0 })
		d.eventually("an order", func(v *View) bool { return v.Regions["c"] != nil && v.Regions["c"].Order != nil })
		if d.View().Regions["b"] != nil {
			t.Errorf("%s takes the order of a stranger", d.o.Name)
		}
	}
	unlisted := begin(t, with(director("d4", d1), someone(t)), net)
	if err := unlisted.Give(t.Context(), Order{Region: "b", Kind: Drain}); err != errUnlisted {
		t.Errorf("a director that is not listed: %v", err)
	}
}

// A fullDisk keeps what it had, which is nothing.
type fullDisk struct{}

func (fullDisk) Read() ([]byte, error) { return nil, fs.ErrNotExist }
func (fullDisk) Write([]byte) error    { return syscall.ENOSPC }
func (fullDisk) SetAside() error       { return nil }
func (fullDisk) String() string        { return "a full disk" }

// An order that cannot be written is in force, and the error says so.
func Test_an_order_that_cannot_be_saved_is_in_force(t *testing.T) {
	o := director("d1")
	o.Disk = fullDisk{}
	d := begin(t, o, nil)
	if err := d.Give(t.Context(), Order{Region: "a", Kind: Drain}); !errors.Is(err, ErrUnsaved) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if r := d.View().Regions["a"]; r == nil || r.Order == nil {
		t.Errorf("%+v", r)
	}
}

// Though there are more orders than go on one beat, a director that joins late has all, and each beat stays within its bound.
func Test_many_orders_take_turns(t *testing.T) {
	const regions = 100
	d1 := begin(t, director("d1"), nil)
	for i := range regions {
		if err := d1.Give(t.Context(), Order{Region: fmt.Sprint("r", i), Kind: Drain, Reason: "moving house"}); err != nil {
			t.Fatal(err)
		}
	}
	c := &core{o: d1.o, orders: newOrders(), nodes: []memberlist.Node{{Name: "d2", Meta: encodeMeta(roleDirector, "", "")}}}
	for i := range regions {
		if _, err := c.orders.give(Order{Region: fmt.Sprint("r", i), Kind: Drain}, "d1", t0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	seen, packets := make(map[string]int), 0
	c.send = func(_ memberlist.Node, b []byte) error {
		packets++
		m, err := decodeMessage(b, time.Now())
		if err != nil || len(b) > 1+sealPacket {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		for _, o := range m.seal.orders {
			seen[o.Region]++
		}
		return nil
	}
	beats := 0
	for ; len(seen) < regions && beats < regions; beats++ {
		c.sendHeld(time.Now())
	}
	if packets != beats*orderPackets || seen["r99"] < beats {
		t.Errorf("%d beats of %d packets told %d orders, the newest %d times", beats, packets, len(seen), seen["r99"])
	}
	t.Logf("%d orders were told in %d beats of %d packets", regions, beats, orderPackets)
	d2 := begin(t, director("d2", d1), nil)
	d2.eventually("all orders", func(v *View) bool { return len(v.Regions) == regions })
}

// A director that is told of an undrain, and not of the drain, remembers that over a restart: who was away with the drain cannot bring it back.
func Test_what_takes_back_an_order_is_remembered(t *testing.T) {
	net := newNetwork()
	d1 := begin(t, director("d1"), net)
	d2 := begin(t, director("d2", d1), net)
	away := begin(t, director("d3", d1), net)
	for _, d := range []*node{d1, d2, away} {
		d.eventually("three members", func(v *View) bool { return len(v.Members) == 3 })
	}
	net.set(true, away)
	if err := away.Give(t.Context(), Order{Region: "a", Kind: Drain}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*node{d1, d2} {
		d.eventually("that d3 is gone", func(v *View) bool { return len(v.Members) == 2 })
	}
	if err := d1.Give(t.Context(), Order{Region: "a", Kind: None}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(testBeat / 10) {
		m, err := readMemory(folder(d2.o.Dir))
		if err == nil && len(m.Orders) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("d2 has on disk: %+v, %v", m.Orders, err)
		}
	}
	d1.kill()
	d2.kill()
	d2 = d2.again(net)
	net.set(false, away)
	away.sees("")
	d2.sees("")
}
