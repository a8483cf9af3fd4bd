package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// An install is word of a fed zone: its text is to be its copy; without text, its copy has expired.
type install struct {
	zone, text string
	done       chan error // of capacity 1
}

const (
	maxInstalls = 1000            // zones that come into use at once: none waits long for the others
	installTime = 5 * time.Minute // for the loop to take an install and be done: a set of millions of records is made in less
)

// install has the reload loop put a zone in use; it returns when it is.
func (d *director) install(ctx context.Context, zone, text string) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	in := install{zone, text, make(chan error, 1)}
	select {
	case d.installs <- in:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-in.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expire has the reload loop look again which copies are too old.
func (d *director) expire(ctx context.Context, zone string) error { return d.install(ctx, zone, "") }

// waiting are an install and those that wait behind it, at most most.
func waiting(in install, more <-chan install, most int) []install {
	all := []install{in}
	for len(all) < most {
		select {
		case in = <-more:
			all = append(all, in)
		default:
			return all
		}
	}
	return all
}

// installAll puts zones in use that can be served, in the configuration in use whatever the files hold by now, and
// makes their texts their copies.
func (d *director) installAll(ctx context.Context, all []install) {
	contents := map[string]*zones.Content{}
	var good []install
	for _, in := range all {
		if in.text != "" {
			c, err := d.loaded.try(in.zone, in.text)
			if err != nil {
				in.done <- err
				continue
			}
			contents[in.zone] = c
		}
		good = append(good, in)
	}
	next, err := d.loaded.with(contents)
	if err == nil {
		written := next.writeCopies(good, contents)
		if len(written) < len(good) { // the others are not to be served: a restart would begin without them
			next, err = d.loaded.with(contents)
		}
		good = written
	}
	if err == nil && len(good) > 0 {
		err = d.use(ctx, next)
	}
	if err == nil && len(contents) > 0 {
		d.log.Info("copies of zones in use", "zones", len(contents), "generation", d.keeper.Snapshot().Generation)
	}
	for _, in := range good {
		in.done <- err
	}
}

// writeCopies makes texts the copies of zones; what could not be written is told, and has no content any more.
func (l *loaded) writeCopies(all []install, contents map[string]*zones.Content) (written []install) {
	for _, in := range all {
		if in.text != "" {
			if err := l.writeCopy(in, contents); err != nil {
				delete(contents, in.zone)
				in.done <- err
				continue
			}
		}
		written = append(written, in)
	}
	return written
}

var errNotFed = errors.New("the configuration does not feed it any more")

// position is where a zone stands in the configuration, -1 if nowhere.
func (l *loaded) position(zone string) int {
	if i, ok := l.positions[zone]; ok {
		return i
	}
	return -1
}

// try tells if the text can be served as a zone, with its services.
func (l *loaded) try(zone, text string) (*zones.Content, error) {
	i := l.position(zone)
	if i < 0 || !l.zoneConfigs[i].Fed {
		return nil, errNotFed
	}
	c := l.zoneConfigs[i]
	c.Content = zones.ParseContent(text, zone)
	var problems collected
	set := zones.Load(l.dir, l.regionConfigs, []zones.ZoneConfig{c}, problems.report)
	if err := problems.err(); err != nil {
		return nil, err
	}
	if absent := set.Zones[0].Absent; absent != "" {
		return nil, errors.New(absent)
	}
	return c.Content, nil
}

// with is the configuration with other contents of zones, by name; for the rest of it no file is read.
func (l *loaded) with(contents map[string]*zones.Content) (*loaded, error) {
	next := *l
	in := l.contents()
	var problems collected
	next.assemble(func(z zones.ZoneConfig, path string) *zones.Content {
		if c := contents[dns.CanonicalName(z.Name)]; c != nil {
			return c
		}
		if c := in[contentKey{z.Name, path}]; c != nil {
			return c
		}
		return zones.ReadContent(path, dns.CanonicalName(z.Name)) // of a new member
	}, l, problems.report)
	next.dns = l.dns.With(next.dnsZones(), problems.report)
	return &next, problems.err()
}

// collected are problems that no file's line is to be told of.
type collected []string

func (c *collected) report(key string, value any, accepted string) {
	*c = append(*c, fmt.Sprintf("%v; accepted: %s", value, accepted))
}

func (c collected) err() error {
	if len(c) == 0 {
		return nil
	}
	return errors.New(strings.Join(c, "\n"))
}

// writeCopy makes a text the copy of a zone, just confirmed; its content is then that of the file.
func (l *loaded) writeCopy(in install, contents map[string]*zones.Content) error {
	i := l.position(in.zone)
	if i < 0 || contents[in.zone] == nil {
		return errNotFed
	}
	path := absolute(l.dir, l.zoneConfigs[i].File)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, []byte(zones.Seal(in.text)), 0o600); err != nil {
		return err
	}
	contents[in.zone] = contents[in.zone].At(path)
	l.zoneConfigs[i].Content = contents[in.zone]
	return zones.Confirm(path, time.Now())
}

// copies are the files of zones that have primaries.
func (l *loaded) copies() (files []string) {
	for _, z := range l.zoneConfigs {
		if z.Fed {
			files = append(files, absolute(l.dir, z.File))
		}
	}
	return files
}
