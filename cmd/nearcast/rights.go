package main

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nearcast/nearcast/zones"
)

// confine makes the process what it stays: the user that the configuration names, with the right to write to the folders of
// its state and its copies. All that follows is read and written as that user, at the start as at every reload. It returns what rights were kept.
func (s source) confine(role string, log *slog.Logger) (rights, error) {
	d, c, err := parseConfig(s.path)
	if err != nil {
		return rights{}, err
	}
	if err := d.err(); err != nil {
		return rights{}, s.allProblems(err)
	}
	s.over.apply(c)
	dir, err := filepath.Abs(filepath.Dir(s.path))
	if err != nil {
		return rights{}, err
	}
	var writable []string
	if s.agent == "" {
		writable = c.copyFolders(dir)
	}
	if c.Mesh.Listen != "" {
		writable = append(writable, stateDir(absolute(dir, cmp.Or(c.State, defaultState)), role, c.Mesh.Listen))
	}
	keep := s.rights(c)
	if err := confine(c.User, writable, keep); err != nil {
		return rights{}, err
	}
	if c.User != "" {
		log.Info("what follows is read and written as another user", "user", c.User)
	}
	if os.Geteuid() == 0 {
		log.Warn("running as root: `user` in the configuration names whom to become")
	}
	return keep, nil
}

// allProblems is what the loader says of a configuration that is not of the form, which has other problems, too.
func (s source) allProblems(form error) error {
	if _, err := s.load(nil); err != nil {
		return err
	}
	return form
}

// copyFolders are where copies of zones are written; dir is what paths are relative to.
func (c *Config) copyFolders(dir string) (dirs []string) {
	for _, z := range c.Zones {
		if len(z.Primaries) > 0 && z.File != "" {
			dirs = append(dirs, filepath.Dir(absolute(dir, z.File)))
		}
		if z.Catalog != nil && z.Catalog.Folder != "" {
			dirs = append(dirs, absolute(dir, z.Catalog.Folder))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// separate reports folders of copies with anything else that is read: the user may write to all that lies in them, and so to
// the configuration and its secrets.
func (l *loaded) separate(report zones.Reporter) {
	var others []string // each as it is named, and where the links that it is reached by lead
	for _, f := range l.Files {
		others = append(others, filepath.Join(followed(filepath.Dir(f)), filepath.Base(f)), followed(f))
	}
	told := map[string]bool{}
	check := func(key, dir string) {
		if told[dir] {
			return
		}
		told[dir] = true
		inside := followed(dir) + string(filepath.Separator)
		if i := slices.IndexFunc(others, func(f string) bool { return strings.HasPrefix(f, inside) }); i >= 0 {
			report(key, dir+", which has "+others[i], "copies need a folder of their own, with nothing else in it that is read")
		}
	}
	for i, z := range l.Zones {
		if z.Catalog != nil && z.Catalog.Folder != "" {
			check(keyOf("zones", i)+".catalog.folder", absolute(l.dir, z.Catalog.Folder))
		}
		if len(z.Primaries) > 0 && z.File != "" {
			check(keyOf("zones", i)+".file", filepath.Dir(absolute(l.dir, z.File)))
		}
	}
}

// followed is where a path leads, as far as it is there.
func followed(path string) string {
	if p, err := filepath.Abs(path); err == nil {
		path = p
	}
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}
