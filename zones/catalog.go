package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// maxCatalog is the most members of a catalog: each is a zone with timers of its own.
const maxCatalog = 100_000

// Members are the zones that a catalog names (RFC 9432), absolute and lower case, by the zone file at path of the catalog;
// none if there is no such file yet. A catalog that is broken is an error, and none of it is to be used.
func Members(path, catalog string) (members []string, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	wire, err := wireName(dns.Fqdn(catalog))
	if err != nil {
		return nil, err
	}
	catalog = textName(wire)
	records, _ := readZoneFile(path, catalog, func(_ string, line int, found, _ string) {
		err = errors.Join(err, fmt.Errorf("line %d: %s", line, found))
	})
	if err != nil {
		return nil, err
	}
	version, labels, seen := "", map[string]bool{}, map[string]bool{}
	for _, r := range records {
		owner := dns.CanonicalName(r.rr.Header().Name)
		label, of, _ := strings.Cut(owner, ".")
		switch rr := r.rr.(type) {
		case *dns.TXT:
			if owner == "version."+catalog {
				version += strings.Join(rr.Txt, "")
			}
		case *dns.PTR:
			member := dns.CanonicalName(rr.Ptr)
			switch {
			case of != "zones."+catalog: // a property, and none of ours
				continue
			case labels[label]:
				return nil, fmt.Errorf("two members at %s", owner)
			case seen[member]:
				return nil, fmt.Errorf("%s is a member twice", member)
			}
			labels[label], seen[member] = true, true
			members = append(members, member)
		}
	}
	if version != "2" {
		return nil, fmt.Errorf("version %q of catalogs; version 2 is known", version)
	}
	if len(members) > maxCatalog {
		return nil, fmt.Errorf("%d members, at most %d", len(members), maxCatalog)
	}
	return members, nil
}
