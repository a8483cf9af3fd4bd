package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
)

// reloadLoop owns d.loaded: it loads the configuration again on SIGHUP, on a change of any
// of its files, when the API asks, and when zones were transferred; all of it or nothing.
func (d *director) reloadLoop(ctx context.Context) error {
	w, err := watchFiles(d.loaded.Files, d.loaded.seen, d.log)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case reason := <-w.Changed():
			d.log.Info("reload asked for", "by", reason)
			err = d.reload(ctx) // logged and counted there
		case done := <-d.asked:
			d.log.Info("reload asked for", "by", "the API")
			err = d.reload(ctx)
			done <- err
		case in := <-d.installs:
			d.installAll(ctx, waiting(in, d.installs, maxInstalls))
			continue // no file that is watched was read or written
		}
		if err != nil {
			w.Watch(d.loaded.Files, "")
		} else {
			w.Watch(d.loaded.Files, d.loaded.seen)
		}
	}
}

// reload puts the file's present state in use, or refuses it and leaves the old one serving.
func (d *director) reload(ctx context.Context) error {
	next, err := d.source.load(d.loaded)
	if err == nil {
		err = errors.Join(next.forServe(), d.loaded.newFolders(next))
	}
	if err != nil {
		d.reloads.WithLabelValues("refused").Inc()
		d.log.Error("reload refused; the old state goes on serving", "error", err)
		return err
	}
	d.warnFixed(next)
	if err := d.use(ctx, next); err != nil {
		return err
	}
	d.reloads.WithLabelValues("applied").Inc()
	d.log.Info("reload applied", "zones", len(next.Set.Zones), "services", len(next.Set.Services), "generation", d.keeper.Snapshot().Generation)
	return nil
}

// newFolders tells if the process may not write to folders of copies that another configuration has: where it may is settled at
// the start (confine), and zones whose copies it cannot write would be without records.
func (l *loaded) newFolders(next *loaded) error {
	var errs []error
	old := l.copyFolders(l.dir)
	for _, dir := range next.copyFolders(next.dir) {
		if slices.Contains(old, dir) {
			continue
		}
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			var f *os.File
			if f, err = os.CreateTemp(dir, ".writable"); err == nil {
				err = errors.Join(f.Close(), os.Remove(f.Name()))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("a new folder for copies of zones needs a restart: %w", err))
		}
	}
	return errors.Join(errs...)
}

// use puts a configuration in use.
func (d *director) use(ctx context.Context, next *loaded) error {
	if err := d.keeper.Reload(ctx, next.survey()); err != nil {
		return err
	}
	d.mesh.Adopt(next.plan)
	d.dns.Apply(next.dns, d.loaded.Set, next.Set)
	prev := d.loaded
	d.loaded = next
	d.token.Store(&next.token)
	d.tell(prev)
	return nil
}

// maxTold bounds how many zones a line of the log names.
const maxTold = 10

// tell tells what of the zones that are fed cannot be served, if it is not as it was before, and removes the copies of
// members that are gone.
func (d *director) tell(prev *loaded) {
	if prev == nil || !slices.Equal(prev.catalogs(), d.loaded.catalogs()) {
		if err := d.loaded.sweep(); err != nil {
			d.log.Warn("copies of members that are gone are still there", "error", err)
		}
	}
	was := map[string]string{}
	var leftOut []string
	if prev != nil {
		leftOut = prev.leftOut
		for _, z := range prev.Set.Zones {
			was[z.Name] = z.Absent
		}
	}
	if left := d.loaded.leftOut; len(left) > 0 && !slices.Equal(left, leftOut) {
		d.log.Warn("members of catalogs are not served", "zones", len(left), "first", left[:min(len(left), maxTold)])
	}
	var absent []string
	for _, z := range d.loaded.Set.Zones {
		if z.Absent != "" && z.Absent != was[z.Name] && !d.loaded.zoneConfigs[z.Index].Content.IsMissing() {
			absent = append(absent, z.Name+": "+z.Absent)
		}
	}
	if len(absent) > 0 {
		d.log.Warn("zones are not served until a primary gives or confirms them", "zones", len(absent), "first", absent[:min(len(absent), maxTold)])
	}
}

// warnFixed names what a running director does not change.
func (d *director) warnFixed(next *loaded) {
	fixed := d.loaded.fixed(next)
	fixed["listen.dns"] = slices.Equal(d.loaded.Listen.DNS, next.Listen.DNS)
	fixed["listen.tls"] = slices.Equal(d.loaded.Listen.TLS, next.Listen.TLS)
	fixed["listen.admin"] = d.loaded.Listen.Admin == next.Listen.Admin
	warnFixed(fixed, d.log)
}

// fixed are the keys that no running node changes, and whether they are in next as they were.
func (l *loaded) fixed(next *loaded) map[string]bool {
	old, mesh := l.Mesh, next.Mesh
	return map[string]bool{
		"user":                            l.User == next.User,
		"state":                           l.State == next.State,
		"mesh.listen":                     old.Listen == mesh.Listen,
		"mesh.advertise":                  old.Advertise == mesh.Advertise,
		"mesh.join":                       slices.Equal(old.Join, mesh.Join),
		"mesh.label":                      old.Label == mesh.Label,
		"mesh.beat":                       old.Beat == mesh.Beat,
		"mesh.lease":                      old.Lease == mesh.Lease,
		"mesh.key_file and mesh.identity": l.keyed == next.keyed,
	}
}

func warnFixed(fixed map[string]bool, log *slog.Logger) {
	for key, same := range fixed {
		if !same {
			log.Warn("a change takes effect at the next start only", "key", key)
		}
	}
}
