package healthmesh

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever order orders come in, all nodes end with the same one.
func TestOrdersConverge(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		var sent []Order
		for range rapid.IntRange(1, 6).Draw(t, "orders") {
			o := Order{
				Region: "a", Kind: rapid.SampledFrom([]string{Drain, None}).Draw(t, "kind"), By: rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "by"),
				At: now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "at")) * time.Second), Reason: rapid.SampledFrom([]string{"", "x"}).Draw(t, "reason"),
			}
			sent = append(sent, o.normal())
		}
		held := func(all []Order) Order {
			m := make(orders)
			for _, o := range all {
				if _, err := m.apply(o, now); err != nil {
					t.Fatal(err)
				}
			}
			return m["a"]
		}
		if a, b := held(sent), held(rapid.Permutation(sent).Draw(t, "other way")); a != b {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

// A new order of a node whose clock is behind goes before the one that is held.
func TestGiveGoesBeforeWhatIsHeld(t *testing.T) {
	now := time.Now()
	all := make(orders)
	if _, err := all.apply(Order{Region: "a", Kind: Drain, By: "ahead", At: now.Add(time.Hour)}.normal(), now); err != nil {
		t.Fatal(err)
	}
	o, err := all.give(Order{Region: "a", Kind: None}, "behind", now)
	if err != nil || all["a"].Kind != None || o.By != "behind" {
		t.Errorf("%+v, %+v, %v", o, all["a"], err)
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	now := time.Now()
	for want, o := range map[string]Order{
		`order for region ""`:          {Kind: Drain},
		`order of kind "explode"`:      {Region: "a", Kind: "explode"},
		`order with reason`:            {Region: "a", Kind: Drain, Reason: strings.Repeat("x", maxReason+1)},
		`before it begins`:             {Region: "a", Kind: Drain, Until: now.Add(-time.Second)},
		"text on one line are accepte": {Region: "a", Kind: Drain, Reason: "two\nlines"},
	} {
		if _, err := make(orders).give(o, "d", now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	all := make(orders)
	for i := range maxOrders + 1 {
		_, err := all.give(Order{Region: fmt.Sprint("r", i), Kind: Drain}, "d", now)
		if (err != nil) != (i == maxOrders) {
			t.Fatalf("order %d: %v", i, err)
		}
	}
}

// An order ends by itself, and is remembered until nobody can bring an older one.
func TestOrdersEnd(t *testing.T) {
	now := time.Now()
	all := make(orders)
	if _, err := all.give(Order{Region: "a", Kind: Drain, Until: now.Add(time.Hour)}, "d", now); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{time.Minute: true, 61 * time.Minute: false} {
		if got := all["a"].inForce(now.Add(after)); got != want {
			t.Errorf("in force after %v: %v", after, got)
		}
	}
	all.forget(now.Add(24 * time.Hour))
	if len(all) != 1 {
		t.Error("forgotten after a day")
	}
	all.forget(now.Add(time.Hour + orderMemory + time.Second))
	if len(all) != 0 {
		t.Error("never forgotten")
	}
}
