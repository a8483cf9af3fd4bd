package zones

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// head is what every zone of these tests starts with.
const head = "$TTL 300\n@ SOA ns.example.net. host 1 3600 600 604800 30\n@ NS ns.example.net.\n"

// writeFiles writes files, by path, into a folder of their own.
func writeFiles(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// reports collects problems as "key = value: accepted".
type reports []string

func (r *reports) add(key string, value any, accepted string) {
	*r = append(*r, fmt.Sprintf("%s = %v: %s", key, value, accepted))
}

// mustLoad loads zones from their texts, by name, in order.
func mustLoad(t testing.TB, texts ...[2]string) *Set {
	t.Helper()
	files := map[string]string{}
	var zones []ZoneConfig
	for _, z := range texts {
		files[z[0]+"zone"] = z[1]
		zones = append(zones, ZoneConfig{Name: z[0], File: z[0] + "zone"})
	}
	var r reports
	s := Load(writeFiles(t, files), nil, zones, r.add)
	if s == nil {
		t.Fatalf("refused:\n%s", strings.Join(r, "\n"))
	}
	return s
}

// wire is a name as a query brings it.
func wire(name string) []byte {
	w, err := wireName(name)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return []byte(w)
}

func (k Kind) String() string {
	return [...]string{"not authoritative", "exact", "wildcard", "referral", "renamed", "missing", "unserved"}[k]
}

// brief is a match in words: its kind and its node's name.
func (m Match) brief() string {
	if m.Node == nil {
		return m.Kind.String()
	}
	return m.Kind.String() + " " + m.Node.Name
}
