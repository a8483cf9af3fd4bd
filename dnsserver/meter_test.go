package dnsserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/nearcast/nearcast/zones"
)

// counts are a meter's counters in words.
func counts(m *Meter) string {
	all := map[string]uint64{}
	m.Each(func(qtype, rcode string, t Transport, n uint64) {
		all[fmt.Sprint("query ", qtype, " ", rcode, " ", t)] += n
	}, func(zone, rcode string, n uint64) {
		all[fmt.Sprint("zone ", zone, " ", rcode)] += n
	}, func(service, region string, n uint64) {
		all[fmt.Sprint("answer ", service, " ", region)] += n
	}, func(service string, n uint64) {
		all["fail open "+service] += n
	})
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%s: %d", key, all[key]))
	}
	return strings.Join(lines, "\n")
}

func TestMeter(t *testing.T) {
	s := build(t, services(), nil)
	m := &Meter{}
	for _, query := range []string{
		"ns1 A", "ns1 A", "gone AAAA", "ns1 TYPE65280", "example.com. A", "www.example.org. A", "www A +version=1",
		"both A", "four AAAA", "down A", "downhop A", "alias A",
	} {
		Answer(nil, ask(t, query), resolver, UDP, s, m)
	}
	Answer(nil, ask(t, "ns1 A"), resolver, TCP, s, m)
	Answer(nil, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), resolver, UDP, s, m)
	Answer(nil, []byte("no reply"), resolver, UDP, s, m)
	want := `answer both.geo.example.com. eu: 1
answer both.geo.example.com. us: 1
answer down.geo.example.com. us: 2
answer downhop.geo.example.com. us: 1
fail open down.geo.example.com.: 2
query A BADVERS udp: 1
query A NOERROR tcp: 1
query A NOERROR udp: 7
query A REFUSED udp: 1
query AAAA NOERROR udp: 1
query AAAA NXDOMAIN udp: 1
query other FORMERR udp: 1
query other NOERROR udp: 1
zone  REFUSED: 1
zone  other: 2
zone example.org. NOERROR: 1
zone geo.example.com. NOERROR: 9
zone geo.example.com. NXDOMAIN: 1`
	if got := counts(m); got != want {
		t.Errorf("counted\n%s\nwant\n%s", got, want)
	}
}

// Counters go on after a reload, also those of what a reload takes away and one after it brings back.
func TestMeterKeepsCountersOverReloads(t *testing.T) {
	all := services()
	full, less := build(t, all, nil), build(t, all[1:], nil)
	m := &Meter{}
	for range 2 {
		Answer(nil, ask(t, "www A"), resolver, UDP, full, m)
		Answer(nil, ask(t, "four A"), resolver, UDP, less, m)
	}
	want := "answer four.geo.example.com. us: 2\nanswer www.geo.example.com. us: 2\nquery A NOERROR udp: 4\nzone geo.example.com. NOERROR: 4"
	if got := counts(m); got != want {
		t.Errorf("counted\n%s\nwant\n%s", got, want)
	}
}

// What reloads took away does not fill the memory.
func TestMeterIsBounded(t *testing.T) {
	m := &Meter{}
	for generation := range 3 {
		set := &zones.Set{}
		for i := range maxGone {
			set.Zones = append(set.Zones, &zones.Zone{Index: i, Name: fmt.Sprintf("z%d-%d.", generation, i)})
		}
		m.query(set, set.Zones[0], 1, 0, UDP)
		if len(m.gone) > maxGone {
			t.Fatalf("%d zones that are gone counted after reload %d", len(m.gone), generation)
		}
	}
}

// Counters of zones that come back go on, and a zone costs what its comment says.
func TestMeterOfManyZones(t *testing.T) {
	if n := unsafe.Sizeof(zoneCounts{}); n != 64 {
		t.Errorf("a zone costs %d octets", n)
	}
	m := &Meter{}
	a, b := &zones.Set{Zones: []*zones.Zone{{Name: "a."}, {Name: "b.", Index: 1}}}, &zones.Set{Zones: []*zones.Zone{{Name: "b."}}}
	for range 2 {
		m.query(a, a.Zones[0], 1, 0, UDP)
		m.query(a, a.Zones[1], 1, 3, UDP)
		m.query(b, b.Zones[0], 1, 3, TCP)
	}
	if got, want := counts(m), "query A NOERROR udp: 2\nquery A NXDOMAIN tcp: 2\nquery A NXDOMAIN udp: 2\nzone a. NOERROR: 2\nzone b. NXDOMAIN: 4"; got != want {
		t.Errorf("counted\n%s\nwant\n%s", got, want)
	}
}

// A meter is read while its worker counts.
func TestMeterIsReadWhileWritten(t *testing.T) {
	all := services()
	sets := []*zones.Set{build(t, all, nil).Snapshot.Set, build(t, all[1:], nil).Snapshot.Set}
	m := &Meter{}
	const queries = 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range queries {
			set := sets[i/100%2]
			m.query(set, set.Zones[0], 1, 0, UDP)
		}
	}()
	last := uint64(0)
	read := func() {
		m.Each(func(_, _ string, _ Transport, _ uint64) {}, func(_, _ string, n uint64) {
			if n < last {
				t.Errorf("%d after %d", n, last)
			}
			last = n
		}, nil, nil)
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		read()
	}
	if last != queries {
		t.Errorf("%d of %d queries counted", last, queries)
	}
}
