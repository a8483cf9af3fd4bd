package zones

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	const version = "version TXT \"2\"\n"
	long := strings.Repeat(strings.Repeat("x", 60)+".", 4)
	for name, c := range map[string]struct{ text, want, unfit, problem string }{
		"none":               {version, "", "", ""},
		"two":                {version + "a.zones PTR One.example.\nb.zones PTR two.example.\n", "one.example. a , two.example. b ", "", ""},
		"with properties":    {version + "a.zones PTR one.example.\ngroup.a.zones TXT \"g\"\nx PTR y.example.\nowner.a.zones PTR z.example.\n", "one.example. a ", "", ""},
		"given away":         {version + "a.zones PTR one.example.\ncoo.a.zones PTR Other.example.\ncoo.b.zones PTR x.\n", "one.example. a other.example.", "", ""},
		"given to two":       {version + "a.zones PTR one.example.\ncoo.a.zones PTR x.\ncoo.a.zones PTR y.\n", "one.example. a ", "", ""},
		"a label with a dot": {version + "a\\.b.zones PTR one.example.\n", "one.example. a\\.b ", "", ""},
		"a long name":        {version + "a.zones PTR " + long + "\n", long + " a ", "", ""},
		"a wildcard":         {version + "a.zones PTR *.one.example.\nb.zones PTR two.example.\n", "two.example. b ", "*.one.example.: not a name of a zone", ""},
		"a star":             {version + "a.zones PTR *.\n", "", "*.: not a name of a zone", ""},
		"odd octets":         {version + "a.zones PTR a\\000b.example.\n", "", "a\\000b.example.: not a name of a zone", ""},
		"the root":           {version + "a.zones PTR .\n", "", ".: the root", ""},
		"itself":             {version + "a.zones PTR catalog.invalid.\n", "", "catalog.invalid.: the catalog itself", ""},
		"no version":         {"a.zones PTR one.example.\n", "", "", `version []`},
		"another version":    {"version TXT 1\na.zones PTR one.example.\n", "", "", `version ["1"]`},
		"two versions":       {version + "version TXT 3\n", "", "", `version ["2" "3"]`},
		"an empty one too":   {version + "version TXT \"\"\n", "", "", `version ["2" ""]`},
		"two strings":        {"version TXT \"2\" \"\"\n", "", "", `version [`},
		"the same twice":     {version + version, "", "", ""},
		"a member twice":     {version + "a.zones PTR one.example.\nb.zones PTR one.example.\n", "", "", "one.example. is a member twice"},
		"two at one label":   {version + "a.zones PTR one.example.\na.zones PTR two.example.\n", "", "", "two members at a.zones.catalog.invalid."},
		"broken":             {version + "a.zones PTR\n", "", "", "line "},
	} {
		dir := writeFiles(t, map[string]string{"catalog": head + c.text})
		members, unfit, err := ReadContent(filepath.Join(dir, "catalog"), "catalog.invalid.").Members("catalog.invalid.")
		var got []string
		for _, m := range members {
			got = append(got, fmt.Sprintf("%s %s %s", m.Name, m.Label, m.Coo))
		}
		if strings.Join(got, ", ") != c.want || strings.Join(unfit, " ") != c.unfit || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %q, %q, %v; want %q, %q, %s", name, got, unfit, err, c.want, c.unfit, c.problem)
		}
		// A catalog that primaries give is absent if it is broken; an operator's own is refused.
		for _, fed := range []bool{false, true} {
			var r reports
			set := Load(dir, nil, []ZoneConfig{{Name: "catalog.invalid", File: "catalog", Fed: fed, Catalog: true}}, r.add)
			if good := set != nil && set.Zones[0].Absent == ""; good != (c.problem == "") || (set == nil) != (c.problem != "" && !fed) {
				t.Errorf("%s: fed %v: %q", name, fed, r)
			}
		}
	}
	if got, _, err := ReadContent(filepath.Join(t.TempDir(), "none"), "catalog.invalid.").Members("catalog.invalid."); err != nil || got != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
}
