package zones

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxCatalog is the most members of a catalog: each is a zone with timers of its own.
const maxCatalog = 100_000

// A CatalogMember is a zone that a catalog names (RFC 9432). Names are absolute and lower case.
type CatalogMember struct {
	Name  string
	Label string // of its node in the catalog: another one is another state of the zone (section 4.1)
	Coo   string // the catalog that may take it over (section 4.3.1); "" if none
}

// Members are the zones that a catalog of that name and content names; none if there is no such file yet. unfit are those that are none of a
// server's zones, with the reason. A catalog that is broken is an error, and none of it is to be used (section 5.1).
func (c *Content) Members(catalog string) (members []CatalogMember, unfit []string, err error) {
	if c.missing {
		return nil, nil, nil
	}
	if err := c.err(); err != nil {
		return nil, nil, err
	}
	var versions []string
	labels, names, coo := map[string]bool{}, map[string]bool{}, map[string][]string{}
	for _, r := range c.records {
		owner := dns.CanonicalName(r.rr.Header().Name)
		label, of := firstLabel(owner)
		switch rr := r.rr.(type) {
		case *dns.TXT:
			if v := strings.Join(rr.Txt, "\" \""); owner == "version."+catalog && !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		case *dns.PTR:
			name := dns.CanonicalName(rr.Ptr)
			if member, at := firstLabel(of); label == "coo" && at == "zones."+catalog {
				coo[member] = append(coo[member], name)
			}
			switch {
			case of != "zones."+catalog: // a property, and none of a member's place
				continue
			case labels[label]:
				return nil, nil, fmt.Errorf("two members at %s", owner)
			case names[name]:
				return nil, nil, fmt.Errorf("%s is a member twice", name)
			}
			labels[label], names[name] = true, true
			members = append(members, CatalogMember{Name: name, Label: label})
		}
	}
	switch { // section 4.2.1
	case len(versions) != 1 || versions[0] != "2":
		return nil, nil, fmt.Errorf("version %q of catalogs; version \"2\", and no other, is known", versions)
	case len(members) > maxCatalog:
		return nil, nil, fmt.Errorf("%d members, at most %d", len(members), maxCatalog)
	}
	fit := members[:0]
	for _, m := range members {
		if why := unfitName(m.Name, catalog); why != "" {
			unfit = append(unfit, m.Name+": "+why)
			continue
		}
		if to := coo[m.Label]; len(to) == 1 {
			m.Coo = to[0]
		}
		fit = append(fit, m)
	}
	return fit, unfit, nil
}

// unfitName says why a member's name is none that a zone can have here, "" if it is one.
func unfitName(name, catalog string) string {
	switch {
	case name == ".":
		return "the root"
	case name == catalog:
		return "the catalog itself"
	case !isPlain(name) || strings.HasPrefix(name, "*"):
		return "not a name of a zone"
	}
	return ""
}

// firstLabel cuts an absolute name behind its first label.
func firstLabel(name string) (label, rest string) {
	i, end := dns.NextLabel(name, 0)
	if end {
		return strings.TrimSuffix(name, "."), "."
	}
	return name[:i-1], name[i:]
}
