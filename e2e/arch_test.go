package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/nearcast/nearcast"

// rules say which packages must not reach which others, and why. A package stands for all below it.
var rules = []struct{ from, never, why string }{
	{"zones", "geo", "what is asked does not depend on who asks"},
	{"zones", "healthmesh", "a zone is the same whatever is up"},
	{"zones", "steer", "a leaf knows nothing of what joins it"},
	{"zones", "dnsserver", "a leaf knows nothing of what joins it"},
	{"geo", "zones", "where a client is does not depend on what it asks"},
	{"geo", "healthmesh", "a place is the same whatever is up"},
	{"geo", "steer", "a leaf knows nothing of what joins it"},
	{"geo", "dnsserver", "a leaf knows nothing of what joins it"},
	{"healthmesh", "zones", "agents and directors of different configurations must be able to gossip"},
	{"healthmesh", "geo", "health has no place"},
	{"healthmesh", "steer", "a leaf knows nothing of what joins it"},
	{"healthmesh", "dnsserver", "a leaf knows nothing of what joins it"},
	{"steer", "dnsserver", "deciding must not depend on how queries come: explain and simulate decide as well"},
	{"dnsserver", "cmd", "wiring is outermost"},
	{"dnsserver", "github.com/hashicorp/memberlist", "a query must not be able to wait for gossip"},
	{"steer", "github.com/hashicorp/memberlist", "a build must not be able to wait for gossip"},
	{"zones", "github.com/spf13", "the form of the configuration file is the verbs' concern alone"},
	{"geo", "github.com/spf13", "the form of the configuration file is the verbs' concern alone"},
	{"healthmesh", "github.com/spf13", "the form of the configuration file is the verbs' concern alone"},
	{"steer", "github.com/spf13", "the form of the configuration file is the verbs' concern alone"},
	{"dnsserver", "github.com/spf13", "the form of the configuration file is the verbs' concern alone"},
	{"dnsserver", "github.com/oschwald", "a query is answered from compiled tables"},
	{"steer", "net/http", "steering is pure"},
	{"steer", "math/rand", "the same inputs give the same answers on every director"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportsRunOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, r := range rules {
			if !below(room, r.from) {
				continue
			}
			seen[r.from] = true
			for _, i := range p.Imports {
				if below(strings.TrimPrefix(i, module+"/"), r.never) {
					t.Errorf("%s imports %s, but %s must not reach %s: %s", room, i, r.from, r.never, r.why)
				}
			}
		}
	}
	for _, r := range rules {
		if !seen[r.from] {
			t.Errorf("a rule is about %s, which does not exist", r.from)
		}
	}
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
