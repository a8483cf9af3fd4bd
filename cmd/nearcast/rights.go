package main

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// confine makes the process what it stays: the user that the configuration names, with the right to write to the folders of
// its state and its copies. All that follows is read and written as that user, at the start as at every reload.
func (s source) confine(role string, log *slog.Logger) error {
	d, c, err := parseConfig(s.path)
	if err != nil {
		return err
	}
	if err := d.err(); err != nil {
		return s.allProblems(err)
	}
	s.over.apply(c)
	dir, err := filepath.Abs(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	var writable []string
	if s.agent == "" {
		writable = c.copyFolders(dir)
	}
	if c.Mesh.Listen != "" {
		writable = append(writable, stateDir(absolute(dir, cmp.Or(c.State, defaultState)), role, c.Mesh.Listen))
	}
	if err := confine(c.User, writable); err != nil {
		return err
	}
	if c.User != "" {
		log.Info("what follows is read and written as another user", "user", c.User)
	}
	if os.Geteuid() == 0 {
		log.Warn("running as root: `user` in the configuration names whom to become")
	}
	return nil
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
