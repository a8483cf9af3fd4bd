package geo

import (
	"cmp"
	"math"
	"slices"

	"github.com/nearcast/nearcast/geo/compact"
)

// maxLabelText is the most octets of a subdivision's name in the compact form; longer ones are not names.
const maxLabelText = 255

// Compact aggregates the table to the grain of the embedded database: labels are country and subdivision, at the
// mean position of their addresses; each /24 and /48 has the label that most of its addresses have. The date is the
// first source's.
func (t *Table) Compact() *compact.Data {
	a := aggregator{table: t, labelOf: make([]uint32, len(t.places.spots)), numbers: map[area]uint32{}, means: make([]mean, 1)}
	a.label()
	d := &compact.Data{V4: aggregate(t.net4, a.labelOf, unit4), V6: aggregate(t.net6, a.labelOf, unit6)}
	a.positions()
	d.V6 = slices.DeleteFunc(d.V6, func(r compact.Run) bool { return r.Label == 0 })
	a.sortLabels(d)
	if s := t.sources; len(s) > 0 {
		d.Built = s[0].Built
	}
	return d
}

// An aggregator joins a table's places to labels.
type aggregator struct {
	table   *Table
	labelOf []uint32 // by place; 0: nothing is known
	numbers map[area]uint32
	areas   []area // by label, less one
	means   []mean // by label
}

// label gives every place its label.
func (a *aggregator) label() {
	for i := range a.table.places.spots {
		l := a.table.places.location(uint32(i))
		if !l.Known || l.Region != "" {
			continue
		}
		key := area{country: l.Country, subdivision: l.Subdivision}
		if len(key.country) != 2 {
			key.country = ""
		}
		if len(key.subdivision) > maxLabelText {
			key.subdivision = ""
		}
		n, ok := a.numbers[key]
		if !ok {
			a.areas = append(a.areas, key)
			n = uint32(len(a.areas))
			a.numbers[key], a.means = n, append(a.means, mean{})
		}
		a.labelOf[i] = n
	}
}

// positions gives every label its mean position: of its IPv4 addresses, which stand for people better than IPv6
// networks do, and of these where there are none.
func (a *aggregator) positions() {
	weigh(a, a.table.net4, 1)
	weigh(a, a.table.net6, 1e-30)
}

func weigh[K key](a *aggregator, r *runs[K], weight float64) {
	for i, place := range r.values {
		if n := a.labelOf[place]; n > 0 {
			a.means[n].add(a.table.places.location(place).Point, weight*r.width(i))
		}
	}
}

// width is how many keys run i has.
func (r *runs[K]) width(i int) float64 {
	if i+1 < len(r.starts) {
		return float64(r.starts[i+1] - r.starts[i])
	}
	return float64(^K(0)-r.starts[i]) + 1
}

// sortLabels numbers the labels by how many runs have them, most first, so that most numbers are short.
func (a *aggregator) sortLabels(d *compact.Data) {
	used := make([]int, len(a.areas)+1)
	for _, runs := range [][]compact.Run{d.V4, d.V6} {
		for _, r := range runs {
			used[r.Label]++
		}
	}
	var order []uint32
	for n := 1; n < len(used); n++ {
		if used[n] > 0 {
			order = append(order, uint32(n))
		}
	}
	slices.SortFunc(order, func(x, y uint32) int {
		ax, ay := a.areas[x-1], a.areas[y-1]
		return cmp.Or(cmp.Compare(used[y], used[x]), cmp.Compare(ax.country, ay.country), cmp.Compare(ax.subdivision, ay.subdivision))
	})
	to := make([]uint32, len(used))
	for i, n := range order {
		to[n] = uint32(i + 1)
		p := a.means[n].point()
		d.Labels = append(d.Labels, compact.Label{
			Country: a.areas[n-1].country, Subdivision: a.areas[n-1].subdivision,
			Lat: int(math.Round(p.Lat * spotUnits)), Lon: int(math.Round(p.Lon * spotUnits)),
		})
	}
	for _, runs := range [][]compact.Run{d.V4, d.V6} {
		for i := range runs {
			runs[i].Label = to[runs[i].Label]
		}
	}
}

// aggregate cuts runs to units of 1<<unit keys; a unit that has several labels gets that of most of its keys, of equals the
// one that comes first.
func aggregate[K key](r *runs[K], labelOf []uint32, unit int) []compact.Run {
	var out []compact.Run
	put := func(start, count uint64, label uint32) {
		if n := len(out); n > 0 && out[n-1].Label == label && out[n-1].Start+out[n-1].Count == start {
			out[n-1].Count += count
		} else if count > 0 {
			out = append(out, compact.Run{Start: start, Count: count, Label: label})
		}
	}
	var votes []vote
	whole := K(1) << unit
	for i, place := range r.values {
		first, last := r.starts[i], ^K(0)
		if i+1 < len(r.starts) {
			last = r.starts[i+1] - 1
		}
		label := labelOf[place]
		if inUnit := first & (whole - 1); inUnit != 0 { // the rest of a unit that other runs began
			n := min(uint64(whole-inUnit), uint64(last-first)+1)
			votes = cast(votes, label, n)
			if uint64(inUnit)+n < uint64(whole) {
				continue
			}
			put(uint64(first>>unit), 1, winner(votes))
			votes = votes[:0]
			if first|(whole-1) == last {
				continue
			}
			first = first | (whole - 1) + 1
		}
		if first == 0 && last == ^K(0) { // of all, the number of keys does not fit
			put(0, uint64(last>>unit)+1, label)
			break
		}
		units := (uint64(last-first) + 1) >> unit
		put(uint64(first>>unit), units, label)
		if rest := uint64(last-first) + 1 - units<<unit; rest > 0 {
			votes = cast(votes, label, rest)
		}
	}
	return out
}

// A vote is how many keys of a unit have a label.
type vote struct {
	label uint32
	keys  uint64
}

func cast(votes []vote, label uint32, keys uint64) []vote {
	for i := range votes {
		if votes[i].label == label {
			votes[i].keys += keys
			return votes
		}
	}
	return append(votes, vote{label, keys})
}

func winner(votes []vote) uint32 {
	best := vote{}
	for _, v := range votes {
		if v.keys > best.keys {
			best = v
		}
	}
	return best.label
}
