package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/dnsserver"
	"github.com/nearcast/nearcast/zones"
)

// A claim is a catalog's on a zone.
type claim struct {
	zones.CatalogMember
	catalog int // position of the catalog among the zones
	file    string
}

// addMembers adds the members of catalogs, whose contents are at hand, to the zones. held tells if a file is a member's copy,
// in use or there. It returns what is left out, with the reason.
func (l *loaded) addMembers(held func(file string) bool) (leftOut []string) {
	own, steered, above := l.taken()
	claims := map[string][]claim{}
	var order []string
	for i := range l.own {
		z := l.Zones[i]
		if z.Catalog == nil || z.File == "" {
			continue
		}
		catalog := dns.CanonicalName(z.Name)
		members, unfit, _ := l.zoneConfigs[i].Content.Members(catalog) // an error makes the catalog absent, or refuses the configuration
		for _, u := range unfit {
			leftOut = append(leftOut, u+", in the catalog "+catalog)
		}
		for _, m := range members {
			why := ""
			switch {
			case own[m.Name]:
				why = "a zone of the configuration, and stays what it is there"
			case above[m.Name] || anyAbove(m.Name, steered):
				why = "the place of a service"
			}
			if why != "" {
				leftOut = append(leftOut, m.Name+": "+why+", in the catalog "+catalog)
				continue
			}
			if claims[m.Name] == nil {
				order = append(order, m.Name)
			}
			claims[m.Name] = append(claims[m.Name], claim{m, i, filepath.Join(z.Catalog.Folder, memberFile(m.Name, catalog, m.Label))})
		}
	}
	for _, name := range order {
		owner := l.owner(claims[name], held)
		for _, c := range claims[name] {
			if c.catalog != owner.catalog {
				leftOut = append(leftOut, name+": a member of "+dns.CanonicalName(l.Zones[owner.catalog].Name)+", in the catalog "+dns.CanonicalName(l.Zones[c.catalog].Name))
			}
		}
		l.addMember(owner)
	}
	return leftOut
}

// owner is which of the catalogs that claim a zone has it (RFC 9432, section 5.2): the one that had it, if any, else the first
// in the file, unless that gives it to another one (section 4.3.1).
func (l *loaded) owner(all []claim, held func(file string) bool) claim {
	owner := all[max(slices.IndexFunc(all, func(c claim) bool { return held(absolute(l.dir, c.file)) }), 0)]
	to := slices.IndexFunc(all, func(c claim) bool { return dns.CanonicalName(l.Zones[c.catalog].Name) == owner.Coo })
	if to >= 0 {
		return all[to]
	}
	return owner
}

func (l *loaded) addMember(c claim) {
	catalog := l.Zones[c.catalog]
	member := Zone{Primaries: catalog.memberPrimaries(), Transfer: catalog.Catalog.Transfer}
	member.Name, member.File, member.Fed = c.Name, c.file, true
	l.Zones = append(l.Zones, member)
	l.zoneConfigs = append(l.zoneConfigs, member.ZoneConfig)
}

func (z Zone) memberPrimaries() []dnsserver.PrimaryConfig {
	if z.Catalog.Primaries != nil {
		return z.Catalog.Primaries
	}
	return z.Primaries
}

// taken are the names that no member can have: zones of the file; names of services, which none can be at or below; and what is
// between a service and its zone, where a member would take the service's name into itself.
func (l *loaded) taken() (own, steered, above map[string]bool) {
	own, steered, above = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range l.own {
		zone := dns.CanonicalName(l.Zones[i].Name)
		own[zone] = true
		for _, s := range l.zoneConfigs[i].Services {
			name := zone
			if s.Name != "@" {
				name = dns.CanonicalName(s.Name + "." + zone)
			}
			if name == zone {
				continue // what is below an apex is no more the service's than the zone's
			}
			steered[name] = true
			for n := name; n != zone && n != "."; n = upper(n) {
				above[n] = true
			}
		}
	}
	return own, steered, above
}

// anyAbove tells if one of the names is name or above it.
func anyAbove(name string, names map[string]bool) bool {
	for ; name != "."; name = upper(name) {
		if names[name] {
			return true
		}
	}
	return false
}

// upper is the name above another one.
func upper(name string) string {
	if i, end := dns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}

// maxReadable is how much of a zone's name its copy's name has: with all of it, some would be longer than file systems allow.
const maxReadable = 100

// memberFile is the name of a member's copy. Another label is another state of the zone (RFC 9432, section 5.5), as is another
// catalog: so each has a copy of its own, and begins without one.
func memberFile(zone, catalog, label string) string {
	sum := sha256.Sum256([]byte(zone + "\x00" + catalog + "\x00" + label))
	readable := url.PathEscape(zone)
	return readable[:min(len(readable), maxReadable)] + "~" + hex.EncodeToString(sum[:8]) + ".zone"
}

// ofMember are the files that memberFile names, and those beside them.
var ofMember = regexp.MustCompile(`~[0-9a-f]{16}\.zone(\.confirmed)?$`)

// catalogs are the contents of catalogs.
func (l *loaded) catalogs() (all []*zones.Content) {
	for i := range l.own {
		if l.Zones[i].Catalog != nil {
			all = append(all, l.zoneConfigs[i].Content)
		}
	}
	return all
}

// sweep removes the copies of members that are gone, from folders all of whose catalogs are known.
func (l *loaded) sweep() error {
	wanted, folders := map[string]bool{}, map[string]bool{}
	for _, file := range l.copies() {
		wanted[file], wanted[zones.Confirmation(file)] = true, true
	}
	for i := range l.own {
		if c := l.Zones[i].Catalog; c != nil {
			folder := absolute(l.dir, c.Folder)
			known, seen := folders[folder]
			content := l.zoneConfigs[i].Content
			folders[folder] = (known || !seen) && content.IsGood() && !content.IsMissing() && l.Set.Zones[i].Absent == ""
		}
	}
	var errs []error
	for folder, known := range folders {
		if !known {
			continue
		}
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if file := filepath.Join(folder, e.Name()); ofMember.MatchString(e.Name()) && !wanted[file] {
				errs = append(errs, os.Remove(file))
			}
		}
	}
	return errors.Join(errs...)
}
