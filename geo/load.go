package geo

import (
	"fmt"
	"path/filepath"
)

// embeddedName is the name of the embedded database as a source.
const embeddedName = "embedded"

// Load compiles the configured databases and overrides, paths relative to dir; sites are
// the regions that overrides may name. prev is the table in use, nil at start: a database
// with less than half of the networks that the file had in prev is refused. Problems go
// to report; the table is nil if there was one.
func Load(cfg Config, dir string, sites []Site, prev *Table, report Reporter) *Table {
	failed := false
	problem := func(key string, value any, accepted string) {
		failed = true
		report(key, value, accepted)
	}
	g := newGazetteer()
	t := &Table{}
	top := t.overrides(cfg.Overrides, dir, sites, g, problem)
	for i, path := range cfg.Database {
		db, err := readDatabase(absolute(dir, path), g)
		if err == nil {
			db.source.Name = path
			err = db.shrunk(prev)
		}
		if err != nil {
			problem(databaseKey(i, len(cfg.Database)), path+": "+err.Error(), "a .mmdb file of MaxMind, DB-IP or IPinfo with positions or countries")
			continue
		}
		top = top.over(db)
		t.sources = append(t.sources, db.source)
	}
	if len(cfg.Database) == 0 {
		db, err := compileEmbedded(g)
		if err != nil {
			problem("geo.database", "the embedded database: "+err.Error(), "a .mmdb file, since the embedded one is broken")
			return nil
		}
		top = top.over(db)
		t.sources = append(t.sources, db.source)
	}
	if failed {
		return nil
	}
	t.places, t.net4, t.net6 = g.places, top.net4.finish(), top.net6.finish()
	return t
}

// overrides reads the overrides into a partition that databases are laid under.
func (t *Table) overrides(path, dir string, sites []Site, g *gazetteer, problem Reporter) *compiled {
	if path == "" {
		return &compiled{net4: &runs[uint32]{}, net6: &runs[uint64]{}}
	}
	return readOverrides(absolute(dir, path), sites, g, func(line int, found, accepted string) {
		at := path
		if line > 0 {
			at = fmt.Sprintf("%s:%d", path, line)
		}
		problem("geo.overrides", at+": "+found, accepted)
	})
}

// over lays c over under.
func (c *compiled) over(under *compiled) *compiled {
	return &compiled{net4: c.net4.over(under.net4), net6: c.net6.over(under.net6)}
}

// shrunk refuses a file that lost most of its networks since prev: it was cut, or is another product.
func (c *compiled) shrunk(prev *Table) error {
	if prev == nil {
		return nil
	}
	for _, s := range prev.sources {
		if s.Name == c.source.Name && c.source.Networks < s.Networks/2 {
			return fmt.Errorf("it has %d networks, less than half of the %d of the one in use", c.source.Networks, s.Networks)
		}
	}
	return nil
}

func databaseKey(i, n int) string {
	if n == 1 {
		return "geo.database"
	}
	return fmt.Sprintf("geo.database[%d]", i)
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Files returns the paths that cfg names, for watching.
func (cfg Config) Files(dir string) []string {
	var files []string
	for _, path := range cfg.Database {
		files = append(files, absolute(dir, path))
	}
	if cfg.Overrides != "" {
		files = append(files, absolute(dir, cfg.Overrides))
	}
	return files
}
