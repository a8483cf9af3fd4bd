package healthmesh

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// capacityLabel is the label of a file's targets that states the capacity of each.
const capacityLabel = "nearcast_capacity"

// rosterTimeout is how long one look-up may take, of all names together.
const rosterTimeout = 5 * time.Second

// A backend is one server behind a region's endpoints.
type backend struct {
	addr     string  // "host:port"
	capacity float64 // 0: as the configuration says for all
}

// A roster reads the list of backends once: ascending by address, each once. An error says nothing of the backends; an empty list
// says that there are none. It is used by one goroutine at a time.
type roster func(context.Context) ([]backend, error)

// errUnsettled: the list may still be being written.
var errUnsettled = errors.New("changed since the reading before")

func newRoster(c BackendsConfig) roster {
	switch {
	case c.DNS != "":
		return dnsRoster(c)
	case c.File != "":
		return fileRoster(c.File)
	}
	var all []backend
	for _, b := range c.Static {
		all = append(all, backend{b.Address, b.Capacity})
	}
	return func(context.Context) ([]backend, error) { return inOrder(all) }
}

// inOrder sorts backends and takes each once.
func inOrder(all []backend) ([]backend, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b backend) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(a.capacity, b.capacity))
	})
	all = slices.Compact(all)
	for i := range all {
		if i > 0 && all[i].addr == all[i-1].addr {
			return nil, fmt.Errorf("backend %s has two capacities, %v and %v", all[i].addr, all[i-1].capacity, all[i].capacity)
		}
	}
	if len(all) > maxBackends {
		return nil, fmt.Errorf("%d backends, at most %d are accepted", len(all), maxBackends)
	}
	return all, nil
}

// dnsRoster looks a name up. What is found in part is an error: a family or a target that did not resolve would look like one
// that was scaled in.
func dnsRoster(c BackendsConfig) roster {
	r := &net.Resolver{PreferGo: true, StrictErrors: true}
	if c.Server != "" {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, c.Server)
		}
	}
	return func(ctx context.Context) ([]backend, error) {
		ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
		defer cancel()
		var all []backend
		var err error
		if c.withSRV() {
			all, err = lookUpSRV(ctx, r, c.DNS)
		} else {
			all, err = lookUpHost(ctx, r, c.DNS, c.Port)
		}
		if failed, ok := errors.AsType[*net.DNSError](err); ok && c.Server != "" {
			failed.Server = c.Server // the resolver names the host's, which was not asked
		}
		if err != nil {
			return nil, err
		}
		return inOrder(all)
	}
}

func lookUpSRV(ctx context.Context, r *net.Resolver, name string) ([]backend, error) {
	_, records, err := r.LookupSRV(ctx, "", "", name)
	switch {
	case err != nil:
		return nil, err
	case len(records) > maxBackends:
		return nil, fmt.Errorf("%d SRV records, at most %d are accepted", len(records), maxBackends)
	}
	var all []backend
	for _, srv := range records {
		if srv.Target == "." {
			continue // RFC 2782: the service is not available
		}
		some, err := lookUpHost(ctx, r, srv.Target, int(srv.Port))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func lookUpHost(ctx context.Context, r *net.Resolver, name string, port int) ([]backend, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	var all []backend
	for _, a := range addrs {
		all = append(all, backend{addr: netip.AddrPortFrom(a.Unmap(), uint16(port)).String()})
	}
	return all, nil
}

// fileRoster reads a file whole each time: nothing that a folder's watcher can miss, and no stamp that two versions can share, stands
// between it and what is there, be it written, renamed or a link that was switched. A version is believed when it was found twice
// in a row.
func fileRoster(path string) roster {
	var seen []byte // what the reading before found
	settled := false
	return func(context.Context) ([]backend, error) {
		text, err := readRoster(path)
		if err != nil {
			seen, settled = nil, false
			return nil, err
		}
		if seen == nil || !bytes.Equal(text, seen) {
			again := seen != nil && !settled
			seen, settled = text, false
			if again {
				return nil, fmt.Errorf("%s changes from each reading to the next", path)
			}
			return nil, errUnsettled
		}
		settled = true
		all, err := parseRoster(text, filepath.Ext(path) == ".json")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return all, nil
	}
}

func readRoster(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path) // opening a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRosterFile+1))
	if err == nil && len(text) > maxRosterFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxRosterFile)
	}
	return text, err
}

// A rosterGroup is one element of a file_sd list.
type rosterGroup struct {
	Targets []string          `json:"targets" yaml:"targets"`
	Labels  map[string]string `json:"labels" yaml:"labels"`
}

// parseRoster reads a list in the form of Prometheus's file_sd.
func parseRoster(text []byte, isJSON bool) ([]backend, error) {
	var decode func(any) error
	if isJSON {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		decode = d.Decode
	} else {
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		decode = d.Decode
	}
	var groups []rosterGroup
	if err := decode(&groups); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if groups == nil {
		return nil, errors.New("there is no list; [] is one without backends")
	}
	var more any
	if err := decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the list")
	}
	var all []backend
	for i, g := range groups {
		capacity, err := g.capacity()
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", i+1, err)
		}
		if g.Targets == nil {
			return nil, fmt.Errorf("group %d has no targets; [] is none", i+1)
		}
		for _, addr := range g.Targets {
			if !validBackend(addr) {
				return nil, fmt.Errorf("target %q, accepted: %s", addr, acceptedBackend)
			}
			all = append(all, backend{addr, capacity})
		}
	}
	return inOrder(all)
}

// capacity is what the group's label states, 0 if there is none.
func (g rosterGroup) capacity() (float64, error) {
	text, ok := g.Labels[capacityLabel]
	if !ok {
		return 0, nil
	}
	c, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || amount(c) == 0 {
		return 0, fmt.Errorf("label %s is %q, a number above 0 is accepted", capacityLabel, text)
	}
	return c, nil
}
