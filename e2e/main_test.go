// Package e2e holds the real binary under test: real sockets, real gossip, real dig, real failures.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// bin is the folder of the binaries under test, made by TestMain.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nearcast-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	return m.Run()
}

// nearcast builds the binary once and returns its path.
var nearcast = sync.OnceValues(func() (string, error) { return build("nearcast") })

// nearcastRace builds it with the race detector.
var nearcastRace = sync.OnceValues(func() (string, error) { return build("nearcast-race", "-race") })

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(bin, name)
	args := append(append([]string{"build", "-o", path}, flags...), "../cmd/nearcast")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}
