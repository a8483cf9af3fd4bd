package geo

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	maxOverrides    = 1 << 20 // lines: as many as a full table of Internet routes
	maxOverrideLine = 1024    // octets: a network and three words
	maxOverrideBits = 64      // IPv6 networks; narrower ones than a site's link have no place of their own
)

// An override is one line of the overrides file.
type override struct {
	network netip.Prefix
	value   uint32
	line    int
}

// readOverrides reads "network,region" or "network,latitude,longitude" lines; "#" begins
// a comment. problem takes the line, what is there, and what is accepted.
func readOverrides(path string, sites []Site, g *gazetteer, problem func(line int, found, accepted string)) *compiled {
	f, err := os.Open(path)
	if err != nil {
		problem(0, err.Error(), "a file that can be read")
		return nil
	}
	defer f.Close()
	p := overrideParser{sites: map[string]Site{}, seen: map[netip.Prefix]int{}, gazetteer: g, problem: problem}
	for _, s := range sites {
		p.sites[s.Name] = s
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, maxOverrideLine), maxOverrideLine)
	for n := 1; lines.Scan(); n++ {
		if n > maxOverrides {
			problem(n, "one line more", fmt.Sprintf("at most %d lines", maxOverrides))
			return nil
		}
		p.parse(n, lines.Text())
	}
	if err := lines.Err(); err != nil {
		problem(0, err.Error(), fmt.Sprintf("lines of at most %d octets", maxOverrideLine))
	}
	return nest(p.overrides)
}

type overrideParser struct {
	sites     map[string]Site
	seen      map[netip.Prefix]int // network -> line
	gazetteer *gazetteer
	problem   func(line int, found, accepted string)
	overrides []override
}

func (p *overrideParser) parse(line int, text string) {
	text, _, _ = strings.Cut(text, "#")
	if strings.TrimSpace(text) == "" {
		return
	}
	fields := strings.Split(text, ",")
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	network, ok := p.network(line, fields[0])
	location, okLocation := p.location(line, text, fields[1:])
	if !ok || !okLocation {
		return
	}
	if first, ok := p.seen[network]; ok {
		p.problem(line, network.String(), fmt.Sprintf("each network once; it stands in line %d", first))
		return
	}
	p.seen[network] = line
	p.overrides = append(p.overrides, override{network, p.gazetteer.number(location), line})
}

func (p *overrideParser) network(line int, text string) (netip.Prefix, bool) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		addr, addrErr := netip.ParseAddr(text)
		if addrErr != nil || addr.Zone() != "" {
			p.problem(line, strconv.Quote(text), "a network such as 203.0.113.0/24 or 2001:db8::/32")
			return netip.Prefix{}, false
		}
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case network.Addr().Is4In6():
		p.problem(line, text, "an IPv4 network in its own form")
	case network.Masked() != network:
		p.problem(line, text, network.Masked().String()+", or a longer prefix")
	case network.Addr().Is6() && network.Bits() > maxOverrideBits:
		p.problem(line, text, fmt.Sprintf("IPv6 networks of at most %d bits", maxOverrideBits))
	default:
		return network, true
	}
	return netip.Prefix{}, false
}

func (p *overrideParser) location(line int, text string, fields []string) (Location, bool) {
	switch len(fields) {
	case 1:
		if s, ok := p.sites[fields[0]]; ok {
			return Location{Point: s.Point, Known: true, Region: s.Name}, true
		}
		p.problem(line, strconv.Quote(fields[0]), "a region of the configuration file")
	case 2:
		lat, errLat := strconv.ParseFloat(fields[0], 64)
		lon, errLon := strconv.ParseFloat(fields[1], 64)
		if errLat == nil && errLon == nil && valid(Point{lat, lon}) {
			return Location{Point: Point{lat, lon}, Known: true}, true
		}
		p.problem(line, fields[0]+","+fields[1], "latitude -90 to 90 and longitude -180 to 180")
	default:
		p.problem(line, strconv.Quote(text), "network,region or network,latitude,longitude")
	}
	return Location{}, false
}

// nest flattens networks that may lie in one another: the narrowest holds.
func nest(overrides []override) *compiled {
	slices.SortFunc(overrides, func(a, b override) int { // a network goes before those in it
		if c := a.network.Addr().Compare(b.network.Addr()); c != 0 {
			return c
		}
		return a.network.Bits() - b.network.Bits()
	})
	var nets4 []span[uint32]
	var nets6 []span[uint64]
	for _, o := range overrides {
		if o.network.Addr().Is4() {
			first, last := range4(o.network)
			nets4 = append(nets4, span[uint32]{first, last, o.value})
		} else {
			first, last := range6(o.network)
			nets6 = append(nets6, span[uint64]{first, last, o.value})
		}
	}
	return &compiled{net4: flatten(nets4), net6: flatten(nets6)}
}

// A span is a network as keys.
type span[K key] struct {
	first, last K
	value       uint32
}

// flatten makes runs of spans that are sorted and disjoint or nested: it goes through the addresses with the
// spans that are open there, the innermost on top.
func flatten[K key](spans []span[K]) *runs[K] {
	out := &runs[K]{}
	out.put(0, 0)
	var open []span[K]
	closeBefore := func(at K, all bool) {
		for len(open) > 0 && (all || open[len(open)-1].last < at) {
			end := open[len(open)-1].last
			open = open[:len(open)-1]
			if end+1 == 0 {
				continue // the end of the address space: what is around ends there too
			}
			under := uint32(0)
			if len(open) > 0 {
				under = open[len(open)-1].value
			}
			out.put(end+1, under)
		}
	}
	for _, s := range spans {
		closeBefore(s.first, false)
		out.put(s.first, s.value)
		open = append(open, s)
	}
	closeBefore(0, true)
	return out
}
