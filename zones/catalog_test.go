package zones

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	const version = "version TXT \"2\"\n"
	for name, c := range map[string]struct{ text, want, problem string }{
		"none":             {version, "", ""},
		"two":              {version + "a.zones PTR One.example.\nb.zones PTR two.example.\n", "one.example. two.example.", ""},
		"with properties":  {version + "a.zones PTR one.example.\ngroup.a.zones TXT \"g\"\ncoo.a.zones PTR other.example.\nx PTR y.example.\n", "one.example.", ""},
		"no version":       {"a.zones PTR one.example.\n", "", `version ""`},
		"another version":  {"version TXT 1\na.zones PTR one.example.\n", "", `version "1"`},
		"two versions":     {version + "version TXT 3\n", "", `version "23"`},
		"a member twice":   {version + "a.zones PTR one.example.\nb.zones PTR one.example.\n", "", "one.example. is a member twice"},
		"two at one label": {version + "a.zones PTR one.example.\na.zones PTR two.example.\n", "", "two members at a.zones.catalog.invalid."},
		"broken":           {version + "a.zones PTR\n", "", "line "},
	} {
		dir := writeFiles(t, map[string]string{"catalog": head + c.text})
		got, err := Members(filepath.Join(dir, "catalog"), "Catalog.invalid")
		if strings.Join(got, " ") != c.want || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %q, %v; want %q, %s", name, got, err, c.want, c.problem)
		}
	}
	if got, err := Members(filepath.Join(t.TempDir(), "none"), "catalog.invalid"); err != nil || !slices.Equal(got, nil) {
		t.Errorf("no file: %q, %v", got, err)
	}
}
