package healthmesh

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	t0  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now = time.Now()
)

// drain is an order of t0 that came at now, changed by some functions.
func drain(changes ...func(*Order)) Order {
	o := Order{Region: "a", Kind: Drain, By: "d1", At: t0, Given: now}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// The table of the merge: which of two orders for a slot counts, whichever comes first.
func TestMergeOfOrders(t *testing.T) {
	later := func(o *Order) { o.At = o.At.Add(1) }
	by2 := func(o *Order) { o.By = "d2" }
	back := func(o *Order) { o.Kind = None }
	short := func(o *Order) { o.For = time.Hour }
	older := func(o *Order) { o.Given = now.Add(-2 * time.Hour) }
	guessed := func(o *Order) { o.Given, o.latest = now.Add(-4*time.Hour), now.Add(-time.Hour) }
	atLeast := func(o *Order) { o.Given = now.Add(-time.Hour) }
	for name, c := range map[string]struct{ loses, wins Order }{
		"the later one":                                {drain(), drain(later, back)},
		"the later one, though it is older here":       {drain(), drain(later, back, older)},
		"the later one, though the first is not ended": {drain(), drain(later, short, older)},
		"of one time, that of the larger name":         {drain(), drain(by2, back)},
		"of one time and name, one and the same":       {drain(), drain(back)},
		"of the same order, the older copy":            {drain(short), drain(short, older)},
	} {
		for _, came := range [][]Order{{c.loses, c.wins}, {c.wins, c.loses}, {c.wins, c.loses, c.wins}} {
			merges(t, name, came, c.wins)
		}
	}
	for name, c := range map[string]struct{ a, b, want Order }{
		"what was counted, not what is guessed":             {drain(short, older), drain(short, guessed), drain(short, older)},
		"but never less than was counted before the guess":  {drain(short), drain(short, guessed), drain(short, atLeast)},
		"of two guesses the older one":                      {drain(short, guessed), drain(short, older, func(o *Order) { o.latest = now }), drain(short, guessed)},
		"a guess of another director says nothing of least": {drain(short, atLeast), drain(short, guessed, func(o *Order) { o.latest = now }), drain(short, atLeast)},
	} {
		for _, came := range [][]Order{{c.a, c.b}, {c.b, c.a}, {c.a, c.b, c.b, c.a}} {
			merges(t, name, came, c.want)
		}
	}
}

// merges wants what is held for region a after some orders came, one after the other.
func merges(t *testing.T, name string, came []Order, want Order) {
	t.Helper()
	all := newOrders()
	for _, o := range came {
		if _, err := all.apply(o, now); err != nil {
			t.Fatal(err)
		}
	}
	if got := all.held[slot{"a", false}]; got != want {
		t.Errorf("%s: %v came to %+v, want %+v", name, came, got, want)
	}
}

// What a slot is: orders replace only those of their own.
func TestSlots(t *testing.T) {
	orders := map[string]Order{
		"drain": {Region: "a", Kind: Drain}, "shed": {Region: "a", Kind: Shed, Share: 0.5}, "freeze": {Kind: Freeze}, "pin": {Region: "b", Kind: PinUp},
	}
	all := newOrders()
	for name, o := range orders {
		if _, err := all.give(o, "d", t0, now); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	v := compose(belief{regions: map[string]*Region{}}, all, nil, now)
	a, b := v.Regions["a"], v.Regions["b"]
	if a.Order.Kind != Drain || a.Drained != 1 || a.Shed.Share != 0.5 || b.Order.Kind != PinUp || b.Drained != 0 || v.Freeze == nil {
		t.Fatalf("%+v %+v %+v", a, b, v.Freeze)
	}
	for _, o := range []Order{{Region: "a", Kind: None}, {Region: "a", Kind: Shed}, {Kind: None}, {Region: "b", Kind: PinDown}} {
		if _, err := all.give(o, "d", t0, now); err != nil {
			t.Fatal(err)
		}
	}
	v = compose(belief{regions: map[string]*Region{}}, all, nil, now)
	if len(v.Regions) != 1 || v.Freeze != nil || v.Regions["b"].Order.Kind != PinDown {
		t.Errorf("%+v, %+v", v.Regions, v.Freeze)
	}
}

// An order ends by its age, and a drain falls by it, whatever At is.
func TestOrdersByAge(t *testing.T) {
	for _, c := range []struct {
		age        time.Duration
		over, for_ time.Duration
		force      bool
		drained    float64
	}{
		{0, 0, 0, true, 1},
		{maxAge, 0, 0, true, 1},
		{0, 0, time.Hour, true, 1},
		{time.Hour - 1, 0, time.Hour, true, 1},
		{time.Hour, 0, time.Hour, false, 1},
		{-time.Hour, 0, time.Hour, true, 1}, // a clock that did not go back cannot say so
		{0, time.Minute, 0, true, 0},
		{time.Minute / 64, time.Minute, 0, true, 1.0 / 64},
		{time.Minute/2 + time.Millisecond, time.Minute, 0, true, 0.5},
		{time.Minute - 1, time.Minute, 0, true, 63.0 / 64},
		{time.Minute, time.Minute, 0, true, 1},
	} {
		for _, at := range []time.Time{t0, t0.AddDate(100, 0, 0)} {
			o := drain(func(o *Order) { o.At, o.Given, o.Over, o.For = at, now.Add(-c.age), c.over, c.for_ })
			if o.inForce(now) != c.force || o.drained(now) != c.drained {
				t.Errorf("age %v, over %v, for %v: in force %v, drained %v", c.age, c.over, c.for_, o.inForce(now), o.drained(now))
			}
		}
	}
}

// A director gives later orders than any that it has seen, whatever its own clock does.
func TestTheHybridClock(t *testing.T) {
	all := newOrders()
	if _, err := all.apply(drain(func(o *Order) { o.Region, o.At = "elsewhere", t0.AddDate(1, 0, 0) }), now); err != nil {
		t.Fatal(err)
	}
	last := all.clock
	for _, wall := range []time.Time{t0, t0.Add(-time.Hour), t0, t0.AddDate(-50, 0, 0), t0.AddDate(2, 0, 0), t0} {
		o, err := all.give(Order{Region: "a", Kind: Drain}, "behind", wall, now)
		if err != nil || !o.At.After(last) || o.By != "behind" || all.held[o.slot()] != o {
			t.Fatalf("%v after %v: %v", o, last, err)
		}
		if wall.After(last) && !o.At.Equal(wall) {
			t.Errorf("%v, though the clock is at %v", o.At, wall)
		}
		last = o.At
	}
	var m memory
	all.save(&m, t0, now)
	again := recallOrders(m, t0.AddDate(-1, 0, 0), now)
	if o, err := again.give(Order{Region: "a", Kind: None}, "behind", t0, now); err != nil || !o.At.After(last) {
		t.Errorf("after a restart %v, not after %v: %v", o.At, last, err)
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	for want, o := range map[string]Order{
		`order for region ""`:                      {Kind: Drain},
		`order to freeze for region "a"`:           {Region: "a", Kind: Freeze},
		`order of kind "explode"`:                  {Region: "a", Kind: "explode"},
		`order with reason`:                        {Region: "a", Kind: Drain, Reason: strings.Repeat("x", maxReason+1)},
		"text on one line are accepted":            {Region: "a", Kind: Drain, Reason: "two\nlines"},
		`order with owner`:                         {Region: "a", Kind: Drain, Owner: strings.Repeat("x", maxOwner+1)},
		`its texts are too long`:                   {Region: "a", Kind: Drain, Reason: strings.Repeat(`"`, maxReason), Owner: strings.Repeat(`\`, maxOwner), Over: 1},
		`of kind "drain" with share 0.5`:           {Region: "a", Kind: Drain, Share: 0.5},
		`with share 1.5`:                           {Region: "a", Kind: Shed, Share: 1.5},
		`of kind "pin-up" over 1m0s`:               {Region: "a", Kind: PinUp, Over: time.Minute},
		`of kind "drain" over 2m0s for 1m0s`:       {Region: "a", Kind: Drain, Over: 2 * time.Minute, For: time.Minute},
		`of kind "drain" over 25h0m0s`:             {Region: "a", Kind: Drain, Over: 25 * time.Hour},
		`of kind "none" for 1m0s`:                  {Region: "a", Kind: None, For: time.Minute},
		`of kind "freeze" for 8784h0m0.000000001s`: {Kind: Freeze, For: maxFor + 1},
	} {
		if o.Over == 1 {
			o.Over, o.For = maxOver-1, maxFor-1
		}
		if _, err := newOrders().give(o, strings.Repeat("d", maxName), t0.Add(1), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
}

// The table of orders is bounded: what has ended gives way, the earliest first, and what is in force does not.
func TestOrdersAreBounded(t *testing.T) {
	all := newOrders()
	for i := range maxOrders {
		kind := Drain
		if i < 2 {
			kind = None
		}
		if _, err := all.give(Order{Region: fmt.Sprint("r", i), Kind: kind}, "d", t0, now); err != nil {
			t.Fatalf("order %d: %v", i, err)
		}
	}
	for i, want := range []error{nil, nil, errOrdersFull} {
		if _, err := all.give(Order{Region: fmt.Sprint("s", i), Kind: Drain}, "d", t0, now); err != want || len(all.held) != maxOrders {
			t.Errorf("order %d past the bound: %v, want %v; %d are held", i, err, want, len(all.held))
		}
		if _, ok := all.held[slot{fmt.Sprint("r", i), false}]; ok != (i == 2) {
			t.Errorf("order %d past the bound: r%d is held: %v", i, i, ok)
		}
	}
}

func TestOrderInWords(t *testing.T) {
	o := drain(func(o *Order) {
		o.Over, o.For, o.Owner, o.Reason, o.Given = time.Minute, time.Hour, "ann@host", "kernel", t0
	})
	if got, want := o.String(), "drained over 1m0s at d1 by ann@host: kernel, until 2026-03-01 13:00:00 UTC"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	o = drain(func(o *Order) { o.Kind, o.Share = Shed, 0.125 })
	if got, want := o.String(), "sheds 12.5 % at d1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
