package zones

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Defaults and bounds of what the configuration states.
const (
	maxRegionName  = 63    // a DNS label's, since names of regions may come to be labels
	maxBiasKM      = 20000 // about half the Earth's circumference: no two places are farther apart
	maxBandKM      = 20000
	defaultBandKM  = 250
	defaultTTL     = 30
	maxServiceTTL  = 86400 // a day; a change of health is seen after the TTL
	defaultAnswers = 1
	defaultRemoval = 50 // percent
	defaultActive  = 1
	maxAnswers     = 8  // regions in one answer; so many of a few addresses fit 1232 octets
	maxAddresses   = 32 // of one region for one service; as many AAAA records fit 1232 octets
)

// regions checks the regions. One with a problem is kept: services that name it have
// no problem of their own.
func (l *loader) regions(configs []RegionConfig) {
	for i, c := range configs {
		key := fmt.Sprintf("regions[%d]", i)
		r := Region{Name: c.Name, Capacity: c.Capacity, MaxCapacity: c.Capacity, BiasKM: c.BiasKM}
		switch {
		case !isRegionName(c.Name):
			l.report(key+".name", c.Name, "1 to 63 of a-z, 0-9 and \"-\"")
		case l.region(c.Name) >= 0:
			l.report(key+".name", c.Name, "each region once")
		}
		if p := c.Location; len(p) == 2 && math.Abs(p[0]) <= 90 && math.Abs(p[1]) <= 180 {
			r.Lat, r.Lon = p[0], p[1]
		} else {
			l.report(key+".location", c.Location, "[latitude, longitude] in degrees, -90 to 90 and -180 to 180")
		}
		if !isPositive(c.Capacity) {
			l.report(key+".capacity", c.Capacity, "a number above 0")
		}
		if c.MaxCapacity != nil {
			if r.MaxCapacity = *c.MaxCapacity; !isPositive(r.MaxCapacity) || r.MaxCapacity < c.Capacity {
				l.report(key+".max_capacity", r.MaxCapacity, "a number from the region's capacity on")
			}
		}
		if !(math.Abs(c.BiasKM) <= maxBiasKM) {
			l.report(key+".bias_km", c.BiasKM, fmt.Sprintf("-%d to %d", maxBiasKM, maxBiasKM))
		}
		l.set.Regions = append(l.set.Regions, r)
	}
}

// region returns the position of the region of that name, -1 if there is none.
func (l *loader) region(name string) int {
	return slices.IndexFunc(l.set.Regions, func(r Region) bool { return r.Name == name })
}

func isRegionName(s string) bool {
	return s != "" && len(s) <= maxRegionName && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func isPositive(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

// services checks a zone's services and puts them at their nodes. d is nil if the zone
// has no name.
func (l *loader) services(zone int, d *draft, configs []ServiceConfig) {
	seen := map[string]bool{}
	for i := range configs {
		c, key := &configs[i], fmt.Sprintf("zones[%d].services[%d]", zone, i)
		s := l.service(key, c)
		if d == nil {
			continue
		}
		wire, ok := l.serviceName(key+".name", c.Name, d.zone)
		switch {
		case !ok:
			continue
		case seen[wire]:
			l.report(key+".name", c.Name, "each service once")
			continue
		case s.CNAME && wire == d.apex:
			l.report(key+".name", c.Name, "a name below the apex; a CNAME cannot stand beside the apex's SOA and NS")
			continue
		}
		seen[wire] = true
		s.Index, s.Name, s.Zone = len(l.set.Services), textName(wire), d.zone
		for j, m := range s.Members {
			if m.CNAME == s.Name {
				l.report(fmt.Sprintf("%s.regions[%d].cname", key, j), c.Regions[j].CNAME, "a name other than the service's own")
			}
		}
		if l.broken[zone] {
			continue // there are no nodes to collide with
		}
		if d.zone.Absent != "" {
			l.set.Services = append(l.set.Services, s) // measured, and answered when the zone is there
			continue
		}
		if taken := l.collision(wire, s); taken != "" {
			l.report(key+".name", c.Name, taken)
			continue
		}
		l.set.Services = append(l.set.Services, s)
		l.set.node(wire, d.zone).Service = s
	}
}

// serviceName returns the absolute name of a service in wire format.
func (l *loader) serviceName(key, name string, z *Zone) (string, bool) {
	switch {
	case name == "@":
		return string(z.Wire), true
	case name == "" || strings.HasSuffix(name, "."):
		l.report(key, name, "a name relative to "+z.Name+", or \"@\"")
		return "", false
	}
	relative, ok := l.name(key, name)
	if !ok {
		return "", false
	}
	wire := strings.TrimSuffix(relative, "\x00") + string(z.Wire)
	if len(wire) > maxName {
		l.report(key, name, "a name that with "+z.Name+" has at most 255 octets")
		return "", false
	}
	return wire, true
}

// collision says why a service cannot be at a name, "" if it can: a service of
// addresses owns A and AAAA there, a service of CNAMEs owns the name.
func (l *loader) collision(wire string, s *Service) string {
	m := l.set.Find([]byte(wire))
	switch {
	case m.Kind == Referral:
		return "a name that is not delegated; the zone file delegates " + m.Node.Name
	case m.Kind == Renamed:
		return "a name that is not below the DNAME at " + m.Node.Name
	case m.Zone != s.Zone:
		return "a name of this zone; it is in the zone " + m.Zone.Name
	case m.Kind != Exact:
		return ""
	}
	for _, set := range m.Node.Sets {
		if t := set.Type; s.CNAME || t == dns.TypeA || t == dns.TypeAAAA || t == dns.TypeCNAME {
			return fmt.Sprintf("a name without %s records in the zone file", dns.Type(t))
		}
	}
	return ""
}

// service checks all of a service but its name.
func (l *loader) service(key string, c *ServiceConfig) *Service {
	s := &Service{
		TTL: uint32(cmp.Or(c.TTL, defaultTTL)), BandKM: defaultBandKM, Answers: cmp.Or(c.Answers, defaultAnswers), Checked: c.Checked,
		Removal: cmp.Or(c.MaxAutomaticRemoval, defaultRemoval), Active: cmp.Or(c.MinActive, defaultActive),
	}
	if c.TTL < 0 || c.TTL > maxServiceTTL {
		l.report(key+".ttl", c.TTL, fmt.Sprintf("1 to %d seconds", maxServiceTTL))
	}
	if c.Answers < 0 || c.Answers > maxAnswers {
		l.report(key+".answers", c.Answers, fmt.Sprintf("1 to %d", maxAnswers))
	}
	if c.MaxAutomaticRemoval < 0 || c.MaxAutomaticRemoval > 100 {
		l.report(key+".max_automatic_removal", c.MaxAutomaticRemoval, "1 to 100 percent")
	}
	if n := len(c.Regions); c.MinActive < 0 || c.MinActive > n && n > 0 {
		l.report(key+".min_active", c.MinActive, fmt.Sprintf("1 to %d, the number of the service's regions", n))
	}
	switch policy, ok := policyOf(c.Steer); {
	case ok:
		s.Policy = policy
	case slices.Contains([]string{"round-robin", "least-load", "sticky"}, c.Steer):
		l.report(key+".steer", c.Steer, "nearest, failover or weighted; "+c.Steer+" is not available yet")
	default:
		l.report(key+".steer", c.Steer, "nearest, failover or weighted")
	}
	if s.NoECS = c.ECS == "off"; c.ECS != "" && c.ECS != "on" && c.ECS != "off" {
		l.report(key+".ecs", c.ECS, "on or off")
	}
	if b := c.BandKM; b != nil {
		if s.BandKM = *b; !(*b >= 0 && *b <= maxBandKM) {
			l.report(key+".band_km", *b, fmt.Sprintf("0 to %d", maxBandKM))
		} else if s.Policy != Nearest {
			l.report(key+".band_km", *b, "band_km with steer nearest only")
		}
	}
	l.members(key, c, s)
	return s
}

// policyOf returns the policy of a name; that of "" is the default.
func policyOf(name string) (Policy, bool) {
	for p := Nearest; p <= Weighted; p++ {
		if p.String() == name {
			return p, true
		}
	}
	return Nearest, name == ""
}

// members checks the regions of a service.
func (l *loader) members(key string, c *ServiceConfig, s *Service) {
	if len(c.Regions) == 0 {
		l.report(key+".regions", []string{}, "at least one region")
	}
	seen := map[string]bool{}
	for i := range c.Regions {
		mc, key := &c.Regions[i], fmt.Sprintf("%s.regions[%d]", key, i)
		m := Member{Region: l.region(mc.Region)}
		switch {
		case m.Region < 0:
			l.report(key+".region", mc.Region, "a region of this file")
		case seen[mc.Region]:
			l.report(key+".region", mc.Region, "each region once in a service")
		case mc.Weight == nil:
			m.Weight = l.set.Regions[m.Region].Capacity
		}
		seen[mc.Region] = true
		if mc.Weight != nil {
			if m.Weight = *mc.Weight; !isPositive(m.Weight) {
				l.report(key+".weight", m.Weight, "a number above 0")
			}
		}
		l.endpoint(key, mc, &m)
		for _, a := range m.Addrs {
			if s.Answers > 1 && slices.ContainsFunc(s.Members, func(o Member) bool { return slices.Contains(o.Addrs, a) }) {
				l.report(key+".addresses", a, "addresses that no other region of the service has, since its answers hold several regions")
			}
		}
		s.Members = append(s.Members, m)
	}
	l.alike(key, c, s)
}

// endpoint checks the addresses or the CNAME of one region.
func (l *loader) endpoint(key string, c *MemberConfig, m *Member) {
	switch {
	case len(c.Addresses) > 0 && c.CNAME != "":
		l.report(key+".cname", c.CNAME, "either addresses or cname")
	case len(c.Addresses) > maxAddresses:
		l.report(key+".addresses", fmt.Sprintf("%d addresses", len(c.Addresses)), fmt.Sprintf("at most %d", maxAddresses))
	case len(c.Addresses) > 0:
		l.addresses(key+".addresses", c.Addresses, m)
	case c.CNAME == "":
		l.report(key+".addresses", []string{}, "addresses or a cname")
	default:
		if wire, ok := l.name(key+".cname", c.CNAME); ok {
			m.CNAME = textName(wire)
			switch {
			case isWildcard(wire):
				l.report(key+".cname", c.CNAME, "a host name without \"*\"")
			case dns.CountLabel(m.CNAME) < 2: // names here are absolute: "mail" would not be the zone's
				l.report(key+".cname", c.CNAME, "a whole host name, such as lb.example.net")
			}
		}
	}
}

func (l *loader) addresses(key string, texts []string, m *Member) {
	for i, text := range texts {
		a, err := netip.ParseAddr(text)
		accepted := ""
		switch {
		case err != nil:
			accepted = "an IPv4 or IPv6 address"
		case a.Zone() != "":
			accepted = "an address without a zone"
		case a.Is4In6():
			accepted = "the IPv4 address itself, " + a.Unmap().String()
		case a.IsUnspecified() || a.IsMulticast():
			accepted = "the address of a host"
		case slices.Contains(m.Addrs, a):
			accepted = "each address once"
		}
		if accepted != "" {
			l.report(fmt.Sprintf("%s[%d]", key, i), text, accepted)
			continue
		}
		m.Addrs = append(m.Addrs, a)
	}
	slices.SortStableFunc(m.Addrs, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
}

// alike tells if some regions of a service have addresses and some a CNAME. A region
// with both or neither has been reported and counts for neither side.
func (l *loader) alike(key string, c *ServiceConfig, s *Service) {
	first := true
	for i := range c.Regions {
		m := &c.Regions[i]
		if (len(m.Addresses) > 0) == (m.CNAME != "") {
			continue
		}
		switch cname := m.CNAME != ""; {
		case first:
			s.CNAME, first = cname, false
		case cname && !s.CNAME:
			l.report(fmt.Sprintf("%s.regions[%d].cname", key, i), m.CNAME, "addresses, as the regions before it have")
			return
		case !cname && s.CNAME:
			l.report(fmt.Sprintf("%s.regions[%d].addresses", key, i), m.Addresses, "a cname, as the regions before it have")
			return
		}
	}
}

// name checks a domain name of the configuration, with or without the final dot, and
// returns it in wire format. Names of the configuration are plain: they also stand in
// logs, metrics and addresses of pages.
func (l *loader) name(key, name string) (string, bool) {
	if !isPlain(name) {
		l.report(key, name, "a domain name of letters, digits, \"-\", \"_\" and \"/\"")
		return "", false
	}
	wire, err := wireName(dns.Fqdn(name))
	if err != nil {
		l.report(key, name, "a domain name: labels of 1 to 63 octets, 255 octets in all")
		return "", false
	}
	return wire, true
}

func isPlain(name string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/."
	rest := strings.TrimPrefix(name, "*.")
	return rest == "*" || rest != "" && strings.Trim(rest, plain) == ""
}
