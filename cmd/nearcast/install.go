package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// An install is a zone that was transferred: its text is to be its copy.
type install struct {
	zone, text string
	done       chan error // of capacity 1
}

// maxInstalls bounds how many zones come into use with one reload.
const maxInstalls = 1000

// install has the reload loop put a zone in use; it returns when it is.
func (d *director) install(ctx context.Context, zone, text string) error {
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

// installAll writes the copies that wait, those that can be served, and puts them in use with one reload.
func (d *director) installAll(ctx context.Context, in install) error {
	var written []install
	for range maxInstalls {
		if err := d.loaded.writeCopy(in.zone, in.text); err != nil {
			in.done <- err
		} else {
			written = append(written, in)
		}
		more := false
		select {
		case in = <-d.installs:
			more = true
		default:
		}
		if !more {
			break
		}
	}
	if len(written) == 0 {
		return nil
	}
	err := d.reload(ctx)
	for _, w := range written {
		w.done <- err
	}
	return err
}

// writeCopy makes text the copy of a zone, if the zone with its services can be served so.
func (l *loaded) writeCopy(zone, text string) error {
	i := slices.IndexFunc(l.zoneConfigs, func(z zones.ZoneConfig) bool { return dns.CanonicalName(z.Name) == zone })
	if i < 0 || !l.zoneConfigs[i].Fed {
		return errors.New("the configuration does not feed it any more")
	}
	c := l.zoneConfigs[i]
	path := absolute(l.dir, c.File)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	c.File = f.Name()
	var problems []string
	set := zones.Load(l.dir, l.regionConfigs, []zones.ZoneConfig{c}, func(key string, value any, accepted string) {
		problems = append(problems, fmt.Sprintf("%v; accepted: %s", value, accepted))
	})
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	if absent := set.Zones[0].Absent; absent != "" {
		return errors.New(absent)
	}
	if c.Catalog {
		if _, err := zones.Members(c.File, zone); err != nil {
			return err
		}
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return zones.Confirm(path, time.Now())
}
